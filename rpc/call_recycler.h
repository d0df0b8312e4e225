// Call objects, with their messages, to be used again.
#ifndef FERRY_RPC_CALL_RECYCLER_H_
#define FERRY_RPC_CALL_RECYCLER_H_

#include <atomic>
#include <cstddef>
#include <memory>

#include "ferry/rpc/server_call.h"

namespace ferry {

// A CallRecycler keeps the call objects of one method that one loop has used.
//
// Take belongs to the loop; Return is Thread-safe. Calls that are out when it is destroyed must not be
// returned.
class CallRecycler {
 public:
  explicit CallRecycler(std::unique_ptr<ServerCall> (*new_call)()) : new_call_(new_call) {}
  ~CallRecycler();
  CallRecycler(const CallRecycler&) = delete;
  CallRecycler& operator=(const CallRecycler&) = delete;

  // A call with an empty reply, new or used before; its request may hold what it held then. The caller owns
  // it until it gives it to Return.
  ServerCall& Take();

  // Takes a call back. Its messages are dropped when they may have grown large: `bytes` says how
  // many bytes the larger of them had on the wire. `in_loop` says that the calling thread is the loop's.
  void Return(ServerCall& call, size_t bytes, bool in_loop);

 private:
  static void Destroy(ServerCall* list);

  std::unique_ptr<ServerCall> (*const new_call_)();
  // The loop's own list.
  ServerCall* free_ = nullptr;
  // What other threads, and the loop's, have returned. Return's release store pairs with Take's acquire
  // exchange.
  std::atomic<ServerCall*> returned_{nullptr};
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_RECYCLER_H_
