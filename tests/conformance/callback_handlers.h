// The conformance service with handlers that never wait.
#ifndef FERRY_TESTS_CONFORMANCE_CALLBACK_HANDLERS_H_
#define FERRY_TESTS_CONFORMANCE_CALLBACK_HANDLERS_H_

#include "absl/status/status.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/streaming_call.h"
#include "tests/conformance/conformance.ferry.h"
#include "tests/conformance/handlers.h"

namespace ferry::test::conformance {

// A CallbackHandlers does what conformance.proto says: each handler keeps its call and is called back.
//
// Thread-safe.
class CallbackHandlers : public ConformanceService {
 public:
  // `log` is not owned, must outlive this.
  explicit CallbackHandlers(HandlerLog& log) : log_(log) {}

  void StartUnary(UnaryCall<Request, Reply> call) override;
  void StartUpload(ClientStreamingCall<Request, Reply> call) override;
  void StartDownload(ServerStreamingCall<Request, Reply> call) override;
  void StartConverse(BidiStreamingCall<Request, Reply> call) override;

 protected:
  HandlerLog& log() { return log_; }

 private:
  HandlerLog& log_;
};

// An InlineHandlers is the same, but for unary calls that need not wait: their handler returns a status.
class InlineHandlers final : public CallbackHandlers {
 public:
  using CallbackHandlers::CallbackHandlers;

  absl::Status Unary(ServerContext& context, const Request& request, Reply& reply) override;
  void StartUnary(UnaryCall<Request, Reply> call) override;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_CALLBACK_HANDLERS_H_
