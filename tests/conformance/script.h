// What the forms of the conformance handlers have in common.
#ifndef FERRY_TESTS_CONFORMANCE_SCRIPT_H_
#define FERRY_TESTS_CONFORMANCE_SCRIPT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/event_loop.h"
#include "tests/conformance/conformance.pb.h"
#include "tests/conformance/handlers.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {

// A Script is what one call's handler has been told by its requests.
//
// Belongs to the handler. `log` and `context` are not owned, must outlive it.
class Script {
 public:
  Script(HandlerLog& log, ServerContext& context) : log_(log), context_(context) {
    log.OnBegin(transport::EventLoop::InAnyLoop());
    for (const auto& [key, value] : context.request_metadata().entries()) {
      context.initial_metadata().Add(absl::StrCat("initial-", key), value);
      context.trailing_metadata().Add(absl::StrCat("trailing-", key), value);
    }
  }

  // Takes the next request; DATA_LOSS if it is not as it was sent.
  absl::Status Take(const Request& request) {
    const size_t size = request.payload().size();
    // Only those of unary calls are.
    if (size > kMaxFragment) log_.OnFragments();
    if (request.payload() != PatternOf(size)) {
      return absl::DataLossError(absl::StrCat("the payload of ", size, " bytes is not what was sent"));
    }
    received_ += size;
    sleeps_ |= request.sleep();
    return absl::OkStatus();
  }

  // A reply of `size` bytes, at this point.
  Reply NextReply(size_t size) const {
    Reply reply = ReplyOf(size);
    reply.set_received(received_);
    return reply;
  }

  // Whether the handler is to wait when all is done.
  bool sleeps() const { return sleeps_; }
  void BeginSleep() { log_.OnSleep(); }

  // How a handler ends that has read all there is to read and would end with `status`: a stream that was cut
  // short is no end of the requests.
  absl::Status End(absl::Status status) {
    const bool cancelled = context_.cancelled();
    log_.OnEnd(cancelled);
    return cancelled && status.ok() ? absl::CancelledError("the handler saw that its call is cancelled")
                                    : status;
  }

  ServerContext& context() { return context_; }

 private:
  HandlerLog& log_;
  ServerContext& context_;
  uint64_t received_ = 0;
  bool sleeps_ = false;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_SCRIPT_H_
