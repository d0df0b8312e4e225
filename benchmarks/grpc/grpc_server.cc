#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "benchmarks/echo.grpc.pb.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/grpc/grpc_echo.h"

namespace ferry::bench {
namespace {

class CallbackHandlers final : public Echo::CallbackService {
  grpc::ServerUnaryReactor* Echo(grpc::CallbackServerContext* context, const EchoRequest* request,
                                 EchoReply* reply) override {
    reply->set_payload(request->payload());
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

class SyncHandlers final : public Echo::Service {
  grpc::Status Echo(grpc::ServerContext*, const EchoRequest* request, EchoReply* reply) override {
    reply->set_payload(request->payload());
    return grpc::Status::OK;
  }
};

// A GrpcServer serves until it is destroyed.
class GrpcServer final : public EchoServer {
 public:
  explicit GrpcServer(std::unique_ptr<grpc::Service> handlers) : handlers_(std::move(handlers)) {}
  ~GrpcServer() override {
    if (server_ != nullptr) server_->Shutdown();
  }

  absl::Status Listen(const std::string& address) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(handlers_.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0)
      return absl::UnavailableError(absl::StrCat("gRPC cannot listen on ", address));
    address_ = address.starts_with("unix:") ? address : absl::StrCat("127.0.0.1:", port);
    return absl::OkStatus();
  }
  std::string address() const override { return address_; }

 private:
  const std::unique_ptr<grpc::Service> handlers_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<EchoServer>> GrpcEcho::StartServer(const std::string& address) const {
  std::unique_ptr<grpc::Service> handlers;
  if (kind_ == ServerKind::kCallback) {
    handlers = std::make_unique<CallbackHandlers>();
  } else {
    handlers = std::make_unique<SyncHandlers>();
  }
  auto server = std::make_unique<GrpcServer>(std::move(handlers));
  absl::Status status = server->Listen(address);
  if (!status.ok()) return status;
  return server;
}

}  // namespace ferry::bench
