// The conformance service with handlers that are coroutines.
#ifndef FERRY_TESTS_CONFORMANCE_COROUTINE_HANDLERS_H_
#define FERRY_TESTS_CONFORMANCE_COROUTINE_HANDLERS_H_

#include "absl/status/status.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "tests/conformance/conformance.ferry.h"
#include "tests/conformance/handlers.h"

namespace ferry::test::conformance {

// A CoroutineHandlers does what conformance.proto says.
//
// Thread-safe.
class CoroutineHandlers final : public ConformanceService {
 public:
  // `log` is not owned, must outlive this.
  explicit CoroutineHandlers(HandlerLog& log) : log_(log) {}

  Task<absl::Status> CoUnary(ServerContext& context, const Request& request, Reply& reply) override;
  Task<absl::Status> CoUpload(ServerContext& context, StreamReader<Request> requests, Reply& reply) override;
  Task<absl::Status> CoDownload(ServerContext& context, const Request& request,
                                StreamWriter<Reply> replies) override;
  Task<absl::Status> CoConverse(ServerContext& context, StreamReader<Request> requests,
                                StreamWriter<Reply> replies) override;

 private:
  HandlerLog& log_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_COROUTINE_HANDLERS_H_
