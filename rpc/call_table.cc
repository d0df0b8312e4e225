#include "ferry/rpc/call_table.h"

#include <utility>

namespace ferry {

using transport::StreamId;

std::optional<StreamId> CallTable::Open(ClientCall& call, uint32_t max_slots) {
  while (!free_.empty() && free_.back() >= max_slots) free_.pop_back();
  if (free_.empty()) {
    if (slots_.size() >= max_slots) return std::nullopt;
    slots_.push_back({.stream = StreamId::Make(static_cast<uint32_t>(slots_.size() + 1), 0)});
    free_.reserve(slots_.capacity());
    free_.push_back(static_cast<uint32_t>(slots_.size() - 1));
  }
  Slot& slot = slots_[free_.back()];
  free_.pop_back();
  slot.call = &call;
  slot.in_use = true;
  ++in_use_;
  return slot.stream;
}

const CallTable::Slot* CallTable::InUse(StreamId stream) const {
  if (!Knows(stream)) return nullptr;
  const Slot& slot = slots_[stream.slot() - 1];
  return slot.in_use && slot.stream == stream ? &slot : nullptr;
}

CallTable::Slot* CallTable::InUse(StreamId stream) {
  return const_cast<Slot*>(std::as_const(*this).InUse(stream));
}

ClientCall* CallTable::Find(StreamId stream) const {
  const Slot* slot = InUse(stream);
  return slot == nullptr ? nullptr : slot->call;
}

ClientCall* CallTable::Take(StreamId stream) {
  Slot* slot = InUse(stream);
  if (slot == nullptr) return nullptr;
  slot->in_use = false;
  --in_use_;
  slot->stream = stream.Next();
  free_.push_back(stream.slot() - 1);
  return std::exchange(slot->call, nullptr);
}

ClientCall* CallTable::Abandon(StreamId stream) {
  Slot* slot = InUse(stream);
  return slot == nullptr ? nullptr : std::exchange(slot->call, nullptr);
}

std::vector<StreamId> CallTable::Streams() const {
  std::vector<StreamId> streams;
  for (const Slot& slot : slots_) {
    if (slot.call != nullptr) streams.push_back(slot.stream);
  }
  return streams;
}

std::vector<ClientCall*> CallTable::TakeAll() {
  std::vector<ClientCall*> calls;
  for (const Slot& slot : slots_) {
    if (slot.call != nullptr) calls.push_back(slot.call);
  }
  slots_.clear();
  free_.clear();
  in_use_ = 0;
  return calls;
}

}  // namespace ferry
