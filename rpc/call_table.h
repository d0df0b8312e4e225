// A client's calls by the slots they use on one connection.
#ifndef FERRY_RPC_CALL_TABLE_H_
#define FERRY_RPC_CALL_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
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
  // Gives `call` a free slot of 1 to `max_slots`; nullopt if there is none. Slots that are free but beyond
  // that, because the limit has shrunk, are never used again.
  std::optional<transport::StreamId> Open(ClientCall& call, uint32_t max_slots);

  // The call that uses `stream`; nullptr if it is abandoned or not in use.
  ClientCall* Find(transport::StreamId stream) const;

  // Frees the slot, for the server has ended its call; returns the call, or nullptr if it was abandoned. Does
  // nothing if `stream` is not in use: its generation tells a late frame of an earlier call.
  ClientCall* Take(transport::StreamId stream);

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

  // Slots in use.
  size_t in_use() const { return in_use_; }

 private:
  struct Slot {
    // The stream of the current or, if it is free, the next use.
    transport::StreamId stream;
    ClientCall* call = nullptr;
    bool in_use = false;
  };
  Slot* InUse(transport::StreamId stream);
  const Slot* InUse(transport::StreamId stream) const;

  // slots_[i] is slot i + 1.
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t in_use_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_TABLE_H_
