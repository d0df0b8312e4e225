// The standard health service: what a server says of its ability to serve.
#ifndef FERRY_RPC_HEALTH_HEALTH_SERVICE_H_
#define FERRY_RPC_HEALTH_HEALTH_SERVICE_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "ferry/rpc/health/health.ferry.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/streaming_call.h"

namespace ferry {

// A HealthService answers grpc.health.v1.Health (health.proto) with statuses that the application sets. The
// server as a whole, which goes by the empty name, is SERVING from the beginning.
//
//   ferry::HealthService health;
//   health.AddTo(server);
//   health.SetStatus("shop.Catalog", ferry::HealthService::kNotServing);   // until its data is loaded
//
// Thread-safe. Neither call keeps a thread. It must outlive its server.
class HealthService final : public grpc::health::v1::HealthService {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;
  static constexpr Status kUnknown = grpc::health::v1::HealthCheckResponse::UNKNOWN;
  static constexpr Status kServing = grpc::health::v1::HealthCheckResponse::SERVING;
  static constexpr Status kNotServing = grpc::health::v1::HealthCheckResponse::NOT_SERVING;
  static constexpr Status kServiceUnknown = grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN;

  // The longest name that clients may ask for, in bytes; longer ones are INVALID_ARGUMENT.
  static constexpr size_t kMaxNameBytes = 1024;

  struct Options {
    // Watch calls at once; one more ends with RESOURCE_EXHAUSTED. Each takes less than 1 KiB.
    size_t max_watches = 10'000;
  };

  HealthService() : HealthService(Options{}) {}
  explicit HealthService(const Options& options);
  ~HealthService() override;

  // Registers this with `server`, and has Server::Shutdown begin with Shutdown() here. Watch calls, which
  // would keep the server from ending, end then, with UNAVAILABLE after the last status. REQUIRES: Listen was
  // not called yet. For one server.
  void AddTo(Server& server);

  // From now on; kServiceUnknown forgets the service. Watchers are told before this returns, those who read
  // slowly as soon as they can take it: the latest status then, whatever was in between.
  void SetStatus(std::string_view service, Status status);

  // Every service that is known is NOT_SERVING from now on, and SetStatus does nothing any more.
  void Shutdown();

  // grpc.health.v1.Health.
  absl::Status Check(ServerContext& context, const grpc::health::v1::HealthCheckRequest& request,
                     grpc::health::v1::HealthCheckResponse& response) override;
  void StartWatch(
      ServerStreamingCall<grpc::health::v1::HealthCheckRequest, grpc::health::v1::HealthCheckResponse> call)
      override;

 private:
  class Statuses;
  class Watch;

  // Calls that are still ending hold on to it.
  const std::shared_ptr<Statuses> statuses_;
};

}  // namespace ferry

#endif  // FERRY_RPC_HEALTH_HEALTH_SERVICE_H_
