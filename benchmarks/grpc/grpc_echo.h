// gRPC C++, as the load program runs it.
#ifndef FERRY_BENCHMARKS_GRPC_GRPC_ECHO_H_
#define FERRY_BENCHMARKS_GRPC_GRPC_ECHO_H_

#include <memory>
#include <string>

#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// A GrpcEcho is a server and clients of gRPC's C++ library, without TLS. Blocking work uses its blocking
// stub, other work its callback stub. How many threads do what is gRPC's own decision; Workload is ignored.
class GrpcEcho final : public Implementation {
 public:
  enum class ServerKind {
    kCallback,  // answers on the thread that read the request
    kSync,      // answers on a thread of the server's pool
  };

  explicit GrpcEcho(ServerKind kind) : kind_(kind) {}

  absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const override;
  absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const override;
  absl::StatusOr<std::unique_ptr<Caller>> NewCaller(const std::string& address) const override;

 private:
  const ServerKind kind_;
};

// "grpc" and "grpc-sync".
Implementations GrpcImplementations();

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_GRPC_GRPC_ECHO_H_
