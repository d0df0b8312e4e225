#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "benchmarks/echo.grpc.pb.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/caller_threads.h"
#include "ferry/benchmarks/grpc/grpc_echo.h"

namespace ferry::bench {
namespace {

// OK if `reply` is the echo of `request`.
absl::Status Check(const grpc::Status& status, const EchoRequest& request, const EchoReply& reply) {
  if (!status.ok()) return absl::UnavailableError(absl::StrCat("gRPC: ", status.error_message()));
  if (reply.payload().size() != request.payload().size()) {
    return absl::DataLossError("gRPC's server sent another payload back");
  }
  return absl::OkStatus();
}

// A CallbackLoad keeps calls in flight whose callbacks begin the next.
//
// Callbacks run on gRPC's threads, several at a time.
class CallbackLoad {
 public:
  CallbackLoad(const EchoRequest& request, Meter& meter) : request_(request), meter_(meter) {}

  // Adds one call in flight. Before Run.
  void Add(Echo::Stub& stub) { slots_.emplace_back(*this, stub); }

  absl::Status Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      left_ = slots_.size();
    }
    const int64_t now = NowNanos();
    for (Slot& slot : slots_) slot.Begin(now);
    all_ended_.WaitForNotification();
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  // A Slot is one of the calls in flight, again and again.
  class Slot {
   public:
    Slot(CallbackLoad& load, Echo::Stub& stub) : load_(load), stub_(stub) {}

    void Begin(int64_t now) {
      start_ = now;
      context_.emplace();
      stub_.async()->Echo(&*context_, &load_.request_, &reply_, [this](const grpc::Status& status) {
        const int64_t end = NowNanos();
        if (load_.GoOn(Check(status, load_.request_, reply_), start_, end)) Begin(end);
      });
    }

   private:
    CallbackLoad& load_;
    Echo::Stub& stub_;
    std::optional<grpc::ClientContext> context_;
    EchoReply reply_;
    int64_t start_ = 0;
  };

  bool GoOn(const absl::Status& status, int64_t start, int64_t now) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    status_.Update(status);
    if (status_.ok() && meter_.GoOn(start, now)) return true;
    if (--left_ == 0) all_ended_.Notify();
    return false;
  }

  const EchoRequest& request_;
  Meter& meter_;
  std::deque<Slot> slots_;
  absl::Notification all_ended_;
  absl::Mutex mutex_;
  size_t left_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

BlockingEcho NewBlockingEcho(Echo::Stub& stub, const EchoRequest& request) {
  return [&stub, &request, reply = EchoReply()]() mutable {
    grpc::ClientContext context;
    return Check(stub.Echo(&context, request, &reply), request, reply);
  };
}

// Each channel gets a connection of its own: otherwise those to one address share one.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// Calls with gRPC's callback stub.
class GrpcCaller final : public Caller {
 public:
  explicit GrpcCaller(const std::string& address) : stub_(Echo::NewStub(NewChannel(address))) {}

  void Start(const EchoRequest& request, Done done) override {
    auto call = std::make_shared<Call>(request, std::move(done));
    Call& started = *call;
    stub_->async()->Echo(&started.context, &started.request, &started.reply,
                         [call = std::move(call)](const grpc::Status& status) mutable {
                           const absl::Status checked = Check(status, call->request, call->reply);
                           Done then = std::move(call->done);
                           // First: the context must not be what holds the channel last, on a thread for
                           // whose end the channel waits.
                           call.reset();
                           std::move(then)(checked);
                         });
  }

 private:
  // What must live as long as the call.
  struct Call {
    Call(const EchoRequest& asked, Done then) : request(asked), done(std::move(then)) {}

    grpc::ClientContext context;
    const EchoRequest request;
    EchoReply reply;
    Done done;
  };

  const std::unique_ptr<Echo::Stub> stub_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Caller>> GrpcEcho::NewCaller(const std::string& address) const {
  return std::make_unique<GrpcCaller>(address);
}

absl::Status GrpcEcho::RunClient(const std::string& address, const Work& work, Meter& meter) const {
  std::vector<std::unique_ptr<Echo::Stub>> stubs;
  stubs.reserve(static_cast<size_t>(work.connections));
  for (int i = 0; i < work.connections; ++i) stubs.push_back(Echo::NewStub(NewChannel(address)));
  EchoRequest request;
  request.set_payload(std::string(work.payload, 'x'));
  if (work.blocking()) {
    return RunCallers(work.threads, meter, [&] { return NewBlockingEcho(*stubs.front(), request); });
  }
  CallbackLoad load(request, meter);
  for (const auto& stub : stubs) {
    for (int i = 0; i < work.in_flight; ++i) load.Add(*stub);
  }
  return load.Run();
}

Implementations GrpcImplementations() {
  using Made = std::unique_ptr<Implementation>;
  return {
      {"grpc", [] { return Made(std::make_unique<GrpcEcho>(GrpcEcho::ServerKind::kCallback)); }},
      {"grpc-sync", [] { return Made(std::make_unique<GrpcEcho>(GrpcEcho::ServerKind::kSync)); }},
  };
}

}  // namespace ferry::bench
