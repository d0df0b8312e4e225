// A client's calls by the slots they use on one connection.
#ifndef FERRY_RPC_CALL_TABLE_H_
#define FERRY_RPC_CALL_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ferry/transport/frame.h"

namespace ferry {

class ClientCall;

// A CallTable is the table of a connection's slots, as its client keeps it: which are free, which call uses
// which, and the generation of each (PROTOCOL.md section 9). Slots are numbered from 1; freed ones are used
// again first.
//
//     free --Open--> a call's --Take--> free                     (the server has ended the call)
//                      '--Abandon--> abandoned --Take--> free    (we have; the server has not yet)
//
// Thread-compatible. No hash and, once it has grown to its greatest size, no allocation.
class CallTable {
 public:
  // Gives `call` a free slot of 1 to `max_slots`; kConnectionStream if there is none. (Not an optional: GCC
  // 12 writes its two parts and reads them back as one, which takes as long as all the rest.) Slots that are
  // free but beyond that, because the limit has shrunk, are never used again.
  transport::StreamId Open(ClientCall& call, uint32_t max_slots) {
    if (free_ == kNone || free_ >= max_slots) {
      if (!Grow(max_slots)) return transport::kConnectionStream;
    }
    Slot& slot = slots_[free_];
    free_ = slot.next_free;
    slot.call = &call;
    slot.in_use = true;
    ++in_use_;
    return slot.stream;
  }

  // The call that uses `stream`; nullptr if it is abandoned or not in use.
  ClientCall* Find(transport::StreamId stream) const {
    const Slot* slot = const_cast<CallTable*>(this)->InUse(stream);
    return slot == nullptr ? nullptr : slot->call;
  }

  // Frees the slot, for the server has ended its call; returns the call, or nullptr if it was abandoned. Does
  // nothing if `stream` is not in use: its generation tells a late frame of an earlier call.
  ClientCall* Take(transport::StreamId stream) {
    Slot* slot = InUse(stream);
    if (slot == nullptr) return nullptr;
    slot->in_use = false;
    --in_use_;
    slot->stream = stream.Next();
    slot->next_free = std::exchange(free_, stream.slot() - 1);
    if (slot->call == nullptr) --abandoned_;
    return std::exchange(slot->call, nullptr);
  }

  // Frees a slot whose call was never sent: its next use is the present one.
  void Release(transport::StreamId stream);

  // Takes a call out of the table and leaves its slot in use. Returns nullptr, and does nothing, if it is not
  // there.
  ClientCall* Abandon(transport::StreamId stream);

  // Whether a frame may speak of this slot: it has been used.
  bool Knows(transport::StreamId stream) const {
    return stream.slot() >= 1 && stream.slot() <= slots_.size();
  }

  // Takes out every call, in the order of their slots.
  std::vector<ClientCall*> TakeAll();

  // The streams of all calls, in the order of their slots; those of abandoned ones are not among them.
  std::vector<transport::StreamId> Streams() const;

  // Slots in use, those of abandoned calls among them; and calls.
  size_t in_use() const { return in_use_; }
  size_t calls() const { return in_use_ - abandoned_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Slot {
    // The stream of the current or, if it is free, the next use.
    transport::StreamId stream;
    bool in_use = false;
    // In the list of free slots.
    uint32_t next_free = kNone;
    ClientCall* call = nullptr;
  };

  Slot* InUse(transport::StreamId stream) {
    if (!Knows(stream)) return nullptr;
    Slot& slot = slots_[stream.slot() - 1];
    return slot.in_use && slot.stream == stream ? &slot : nullptr;
  }
  // Puts a usable slot in front of the list of free ones; whether there is any.
  bool Grow(uint32_t max_slots);

  // slots_[i] is slot i + 1.
  std::vector<Slot> slots_;
  // The slot that was freed last, as an index.
  uint32_t free_ = kNone;
  size_t in_use_ = 0;
  size_t abandoned_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_TABLE_H_
