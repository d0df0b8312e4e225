// Ferry's server side of echo.proto.
#ifndef FERRY_BENCHMARKS_ECHO_SERVICE_H_
#define FERRY_BENCHMARKS_ECHO_SERVICE_H_

#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "benchmarks/echo.ferry.h"
#include "benchmarks/echo.pb.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"

namespace ferry::bench {

// An EchoHandlers sends every payload back, or takes or makes it. It has a thread, which answers EchoLater.
//
// Thread-safe. The server must be gone first.
class EchoHandlers final : public EchoService {
 public:
  EchoHandlers();
  ~EchoHandlers() override;

  absl::Status Echo(ServerContext& context, const EchoRequest& request, EchoReply& reply) override;
  absl::Status EchoExecutor(ServerContext& context, const EchoRequest& request, EchoReply& reply) override;
  absl::Status Absorb(ServerContext& context, const EchoRequest& request, EchoReply& reply) override;
  absl::Status Produce(ServerContext& context, const ProduceRequest& request, EchoReply& reply) override;
  void StartEchoLater(UnaryCall<EchoRequest, EchoReply> call) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Calls = std::vector<UnaryCall<EchoRequest, EchoReply>>;

  void AnswerLater() ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !waiting_.empty() || stopping_; }

  absl::Mutex mutex_;
  Calls waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_ECHO_SERVICE_H_
