#include "ferry/benchmarks/ferry_echo.h"

#include <deque>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "benchmarks/echo.ferry.h"
#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/beside_large.h"
#include "ferry/benchmarks/caller_threads.h"
#include "ferry/benchmarks/echo_service.h"
#include "ferry/rpc/call_options.h"

namespace ferry::bench {
namespace {

class FerryServer final : public EchoServer {
 public:
  explicit FerryServer(ServerOptions options) : server_(std::move(options)) { server_.Register(handlers_); }

  absl::Status Listen(const std::string& address) { return server_.Listen(address); }
  std::string address() const override { return server_.addresses().front(); }

 private:
  EchoHandlers handlers_;
  Server server_;
};

// Calls the method that does `workload`, in the form that takes `arguments`.
template <typename... Arguments>
auto Call(EchoStub& stub, Workload workload, Arguments&&... arguments) {
  switch (workload) {
    case Workload::kExecutor:
      return stub.EchoExecutor(std::forward<Arguments>(arguments)...);
    case Workload::kLater:
      return stub.EchoLater(std::forward<Arguments>(arguments)...);
    case Workload::kUnary:
      break;
  }
  return stub.Echo(std::forward<Arguments>(arguments)...);
}

absl::Status WrongPayload() { return absl::DataLossError("the server sent another payload back"); }

// OK if `reply` is the echo of `request`.
absl::Status Check(const absl::Status& status, const EchoRequest& request, const EchoReply& reply) {
  if (status.ok() && reply.payload().size() != request.payload().size()) return WrongPayload();
  return status;
}

// What a call in the blocking form with a fresh reply ended with.
absl::Status Check(const absl::StatusOr<EchoReply>& reply, const EchoRequest& request) {
  return reply.ok() ? Check(absl::OkStatus(), request, *reply) : reply.status();
}

BlockingEcho NewBlockingEcho(EchoStub& stub, const EchoRequest& request, const Work& work) {
  if (work.fresh_reply) {
    return [&stub, &request, workload = work.workload, options = CallOptions()] {
      return Check(Call(stub, workload, request, options), request);
    };
  }
  return [&stub, &request, workload = work.workload, options = CallOptions(), reply = EchoReply()]() mutable {
    return Check(Call(stub, workload, request, reply, options), request, reply);
  };
}

// A CallbackLoad keeps calls in flight whose callbacks begin the next.
//
// All callbacks run on the channels' one loop, to which everything belongs after Run has begun the first
// calls.
class CallbackLoad {
 public:
  CallbackLoad(const EchoRequest& request, const Work& work, Meter& meter)
      : request_(request), work_(work), meter_(meter) {}

  // Adds one call in flight. Before Run.
  void Add(EchoStub& stub) { slots_.emplace_back(*this, stub); }

  absl::Status Run() {
    left_ = slots_.size();
    const int64_t now = NowNanos();
    for (Slot& slot : slots_) slot.Begin(now);
    all_ended_.WaitForNotification();
    return status_;
  }

 private:
  // A Slot is one of the calls in flight, again and again.
  class Slot {
   public:
    Slot(CallbackLoad& load, EchoStub& stub) : load_(load), stub_(stub) {}

    void Begin(int64_t now) {
      start_ = now;
      if (load_.work_.fresh_reply) {
        Call(stub_, load_.work_.workload, load_.request_, load_.options_,
             ReplyCallback<EchoReply>(
                 [this](const absl::StatusOr<EchoReply>& reply) { End(Check(reply, load_.request_)); }));
      } else if (load_.work_.workload == Workload::kUnary) {
        // As an application would: passing the callback on costs as much as the stub does.
        stub_.Echo(load_.request_, reply_, load_.options_,
                   [this](const absl::Status& status) { End(Check(status, load_.request_, reply_)); });
      } else {
        Call(stub_, load_.work_.workload, load_.request_, reply_, load_.options_,
             StatusCallback(
                 [this](const absl::Status& status) { End(Check(status, load_.request_, reply_)); }));
      }
    }

   private:
    void End(const absl::Status& status) {
      load_.status_.Update(status);
      const int64_t now = NowNanos();
      if (load_.status_.ok() && load_.meter_.GoOn(start_, now)) {
        Begin(now);
      } else if (--load_.left_ == 0) {
        load_.all_ended_.Notify();
      }
    }

    CallbackLoad& load_;
    EchoStub& stub_;
    EchoReply reply_;
    int64_t start_ = 0;
  };

  const EchoRequest& request_;
  const CallOptions options_;
  const Work& work_;
  Meter& meter_;
  std::deque<Slot> slots_;
  // Belong to the loop until all_ended_.
  size_t left_ = 0;
  absl::Status status_;
  absl::Notification all_ended_;
};

// Calls over a channel, each with a new reply.
class FerryCaller final : public Caller {
 public:
  explicit FerryCaller(std::unique_ptr<Channel> channel) : channel_(std::move(channel)), stub_(*channel_) {}

  void Start(const EchoRequest& request, Done done) override {
    stub_.Echo(
        request, {},
        [done = std::move(done), size = request.payload().size()](absl::StatusOr<EchoReply> reply) mutable {
          absl::Status status = reply.status();
          if (status.ok() && reply->payload().size() != size) status = WrongPayload();
          std::move(done)(status);
        });
  }

 private:
  const std::unique_ptr<Channel> channel_;
  EchoStub stub_;
};

}  // namespace

ServerOptions FerryEcho::OptionsOfServer() const {
  ServerOptions options{.threads = 1};
  if (!options_.polling) options.poll_time = absl::ZeroDuration();
  if (options_.all_inline) options.run_inline = {{"ferry.bench.Echo/EchoExecutor", true}};
  return options;
}

ChannelOptions FerryEcho::OptionsOfChannel(transport::LoopGroup* loops) const {
  // A call that another thread makes while the loop has the session for itself waits a moment, be it behind
  // 64 MiB.
  ChannelOptions options{.loops = loops, .max_waiting_bytes = 256 * 1024 * 1024};
  if (!options_.polling) options.poll_time = absl::ZeroDuration();
  if (options_.exclusive) options.pool = {.max_connections = 4, .exclusive = true};
  return options;
}

absl::Duration FerryEcho::PollTime() const {
  return options_.polling ? ChannelOptions().poll_time : absl::ZeroDuration();
}

absl::StatusOr<std::unique_ptr<EchoServer>> FerryEcho::StartServer(const std::string& address) const {
  auto server = std::make_unique<FerryServer>(OptionsOfServer());
  absl::Status status = server->Listen(address);
  if (!status.ok()) return status;
  return server;
}

absl::Status FerryEcho::RunClient(const std::string& address, const Work& work, Meter& meter) const {
  auto loops = transport::LoopGroup::Create({.threads = 1, .poll_time = PollTime()});
  if (!loops.ok()) return loops.status();
  std::vector<std::unique_ptr<Channel>> channels;
  std::deque<EchoStub> stubs;
  for (int i = 0; i < work.connections; ++i) {
    // One channel has a loop of its own, as it comes; more share one.
    auto channel = Channel::Create(address, OptionsOfChannel(work.connections > 1 ? loops->get() : nullptr));
    if (!channel.ok()) return channel.status();
    stubs.emplace_back(**channel);
    channels.push_back(*std::move(channel));
  }
  EchoRequest request;
  request.set_payload(std::string(work.payload, 'x'));
  if (work.beside != Beside::kNothing) return RunBesideLarge(stubs.front(), work, meter);
  if (work.blocking()) {
    return RunCallers(work.threads, meter, [&] { return NewBlockingEcho(stubs.front(), request, work); });
  }
  CallbackLoad load(request, work, meter);
  for (EchoStub& stub : stubs) {
    for (int i = 0; i < work.in_flight; ++i) load.Add(stub);
  }
  return load.Run();
}

absl::StatusOr<std::unique_ptr<Caller>> FerryEcho::NewCaller(const std::string& address) const {
  auto channel = Channel::Create(address, OptionsOfChannel(nullptr));
  if (!channel.ok()) return channel.status();
  return std::make_unique<FerryCaller>(*std::move(channel));
}

}  // namespace ferry::bench
