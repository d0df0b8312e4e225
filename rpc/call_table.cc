#include "ferry/rpc/call_table.h"

#include <utility>

namespace ferry {

using transport::StreamId;

bool CallTable::Grow(uint32_t max_slots) {
  while (free_ != kNone && free_ >= max_slots) free_ = slots_[free_].next_free;
  if (free_ != kNone) return true;
  if (slots_.size() >= max_slots) return false;
  free_ = static_cast<uint32_t>(slots_.size());
  slots_.push_back({.stream = StreamId::Make(free_ + 1, 0)});
  return true;
}

ClientCall* CallTable::Abandon(StreamId stream) {
  Slot* slot = InUse(stream);
  if (slot == nullptr || slot->call == nullptr) return nullptr;
  ++abandoned_;
  return std::exchange(slot->call, nullptr);
}

void CallTable::Release(StreamId stream) {
  Slot* slot = InUse(stream);
  if (slot == nullptr) return;
  Take(stream);
  slot->stream = stream;
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
  free_ = kNone;
  in_use_ = abandoned_ = 0;
  return calls;
}

}  // namespace ferry
