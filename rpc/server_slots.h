// The slots of one connection, as its server keeps them.
#ifndef FERRY_RPC_SERVER_SLOTS_H_
#define FERRY_RPC_SERVER_SLOTS_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ferry/rpc/server_call.h"
#include "ferry/rpc/stream.h"
#include "ferry/transport/frame.h"

namespace ferry {

// A ServerSlot is a place that a client may use for one call after another.
//
// Belongs to the loop, but for `call`: the loop sets it; whoever ends the call clears it (release), before
// its answer is written, and the loop looks (acquire). A call object that the loop has found there stays
// valid, and no other call, for as long as the loop is busy with it: only the loop takes it from its recycler
// again.
struct ServerSlot {
  transport::StreamId stream;
  // Null while no call uses the slot.
  std::atomic<ServerCall*> call{nullptr};
  // Of the latest call, if it streams; it may have ended.
  std::shared_ptr<Stream> messages;
  // A REQUEST has come on it.
  bool used = false;
  // More of its client's messages is to come: the rest of the request, of which no handler has seen anything
  // yet, or more messages of a stream.
  bool arriving = false;
};

// A ServerSlots is a growing table of them.
//
// Belongs to the loop. A slot stays where it is.
class ServerSlots {
 public:
  // The slot of this number, made if it was never used.
  ServerSlot& Make(uint32_t slot) {
    while (chunks_.size() <= slot / kChunk) chunks_.push_back(std::make_unique<ServerSlot[]>(kChunk));
    return (*this)[slot];
  }

  // REQUIRES: it was made.
  ServerSlot& operator[](uint32_t slot) { return chunks_[slot / kChunk][slot % kChunk]; }

  bool used(uint32_t slot) { return slot / kChunk < chunks_.size() && (*this)[slot].used; }

  template <typename F>
  void ForEach(F&& f) {
    for (const std::unique_ptr<ServerSlot[]>& chunk : chunks_) std::for_each_n(chunk.get(), kChunk, f);
  }

 private:
  static constexpr uint32_t kChunk = 64;

  // Slot i is chunks_[i / kChunk][i % kChunk].
  std::vector<std::unique_ptr<ServerSlot[]>> chunks_;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_SLOTS_H_
