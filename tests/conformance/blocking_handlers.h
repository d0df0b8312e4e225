// The conformance service with handlers that return a status, and wait where they have to.
#ifndef FERRY_TESTS_CONFORMANCE_BLOCKING_HANDLERS_H_
#define FERRY_TESTS_CONFORMANCE_BLOCKING_HANDLERS_H_

#include "absl/status/status.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/stream_io.h"
#include "tests/conformance/conformance.ferry.h"
#include "tests/conformance/handlers.h"

namespace ferry::test::conformance {

// A BlockingHandlers does what conformance.proto says. For the executor.
//
// Thread-safe.
class BlockingHandlers final : public ConformanceService {
 public:
  // `log` is not owned, must outlive this.
  explicit BlockingHandlers(HandlerLog& log) : log_(log) {}

  absl::Status Unary(ServerContext& context, const Request& request, Reply& reply) override;
  absl::Status Upload(ServerContext& context, StreamReader<Request>& requests, Reply& reply) override;
  absl::Status Download(ServerContext& context, const Request& request,
                        StreamWriter<Reply>& replies) override;
  absl::Status Converse(ServerContext& context, StreamReader<Request>& requests,
                        StreamWriter<Reply>& replies) override;

 private:
  HandlerLog& log_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_BLOCKING_HANDLERS_H_
