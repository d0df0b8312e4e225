// A call that may be on its way to several servers at once.
#ifndef FERRY_RPC_HEDGED_CALL_H_
#define FERRY_RPC_HEDGED_CALL_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_routing.h"
#include "ferry/rpc/client_call.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// A HedgeAttempt is a further attempt at a call, beside its first: a ClientCall of its own, that reads its
// reply straight into the call's. It always has a router, which hears of its end.
//
// Belongs to the loop. Owned by its HedgedCall.
class HedgeAttempt final : public ClientCall {
 public:
  // `request` is the encoded request of `of`, which must live until one of its attempts has ended it.
  HedgeAttempt(ClientCall& of, const transport::Block& request) : of_(of) {
    method = of.method;
    deadline = of.deadline;
    head = of.head;
    request_block = request;
    request_size = of.request_size;
    if (of.reply_metadata != nullptr) reply_metadata = &metadata_;
    routing = std::make_unique<CallRouting>();
    routing->started = of.routing->started;
    routing->attempts = of.routing->attempts;
  }

  // What came with the answer.
  ReplyMetadata& metadata() { return metadata_; }

  // The first answer ends the call: there is no other.
  bool ParseReply(absl::string_view bytes) override { return of_.ParseReply(bytes); }
  bool TakeLargeReply(transport::Block&& bytes, size_t size) override {
    return of_.TakeLargeReply(std::move(bytes), size);
  }

 private:
  // Its router never ends it.
  void Complete(absl::Status /*status*/) override {}

  ClientCall& of_;
  ReplyMetadata metadata_;
};

// A HedgedCall is what a fleet keeps of a call that it sends to further servers, one after each delay without
// an answer, until one of them ends the call.
//
//     under way --an attempt ends it; it is cancelled--> decided --its own attempt is back--> ended
//         '--all attempts have failed--> sent again, or ended
//
// Belongs to the loop. Shared by the call until it has ended, and by each further attempt until that has.
struct HedgedCall {
  HedgedCall(ClientCall& c, absl::AnyInvocable<void()> on_due) : call(c), timer(std::move(on_due)) {}

  // Whether an attempt is under way, the call's own among them. REQUIRES: the call has not ended.
  bool under_way() const {
    if (call.routing->member != nullptr) return true;
    for (const std::unique_ptr<HedgeAttempt>& attempt : others) {
      if (attempt->routing->member != nullptr) return true;
    }
    return false;
  }

  ClientCall& call;
  transport::Block request;
  // Of this round; those that have ended too.
  std::vector<std::unique_ptr<HedgeAttempt>> others;
  // Where the call has been sent in this round: for comparison only.
  std::vector<const FleetMember*> tried;
  // A server has asked for less: no further attempts beside another.
  bool stopped = false;
  // How the call is to end, once its own attempt is not under way any more; and what is known then of whether
  // it was executed, if another attempt says so.
  std::optional<absl::Status> outcome;
  std::optional<Execution> execution;
  bool ended = false;
  // When to send the next attempt.
  transport::Timer timer;
};

}  // namespace ferry

#endif  // FERRY_RPC_HEDGED_CALL_H_
