#include "ferry/rpc/channel.h"

#include <algorithm>
#include <limits>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/connection_pool.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/names/new_resolver.h"
#include "ferry/rpc/names/target.h"
#include "ferry/rpc/option_checks.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/address.h"

namespace ferry {
namespace {

// The most a frame's header can say. What the server accepts is checked when it is known.
constexpr size_t kMaxHead = 0xffff;

// A process has one: whatever its channels want, servers are not stormed.
constinit AttemptLimiter connection_attempts;

Endpoint::Options EndpointOptions(const ChannelOptions& options) {
  Endpoint::Options endpoint;
  endpoint.session.settings.max_message = options.max_message;
  endpoint.session.settings.features = kFlowControlFeature | kStreamingFeature;
  endpoint.session.max_fragment_bytes =
      std::max<size_t>(endpoint.session.max_fragment_bytes, 2 * options.max_message);
  // If both sides stopped reading until the other reads, neither would. What a client sends is bounded by its
  // calls.
  endpoint.session.connection.max_waiting_output = std::numeric_limits<size_t>::max();
  endpoint.session.keepalive.time = options.keepalive_time;
  endpoint.attempts = &connection_attempts;
  endpoint.connect_timeout = options.connect_timeout;
  endpoint.min_backoff = options.min_backoff;
  endpoint.max_backoff = options.max_backoff;
  endpoint.max_waiting_calls = options.max_waiting_calls;
  endpoint.max_waiting_bytes = options.max_waiting_bytes;
  return endpoint;
}

// An error that names the option which is out of its bounds.
absl::Status CheckOptions(const ChannelOptions& options) {
  constexpr absl::Duration kLeast = absl::Milliseconds(1);
  absl::Status valid = CheckAtLeast("connect_timeout", options.connect_timeout, kLeast);
  valid.Update(CheckAtLeast("min_backoff", options.min_backoff, kLeast));
  valid.Update(CheckAtLeast("max_backoff", options.max_backoff, options.min_backoff));
  valid.Update(CheckAtLeast("keepalive_time", options.keepalive_time, kLeast));
  return valid;
}

// What ends a call beside its answer.
struct CallLimits {
  // Infinite if there is none.
  absl::Duration timeout = absl::InfiniteDuration();
  bool inherited_timeout = false;
  // Of the work that the call is made for.
  std::stop_token scope_stop;
};

CallLimits LimitsOf(const MethodDescriptor& method, const CallOptions& options) {
  CallLimits limits;
  if (method.timeout_us > 0) limits.timeout = absl::Microseconds(method.timeout_us);
  if (options.timeout.has_value()) limits.timeout = *options.timeout;
  CallScope* const scope = options.scope != nullptr ? options.scope : CallScope::Current();
  if (options.detached || scope == nullptr) return limits;
  limits.scope_stop = scope->stop_token();
  const absl::Duration left = scope->time_left();
  limits.inherited_timeout = left < limits.timeout;
  limits.timeout = std::min(limits.timeout, left);
  return limits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Channel>> Channel::Create(std::string_view target,
                                                         const ChannelOptions& options) {
  absl::StatusOr<Target> parsed = ParseTarget(target);
  if (!parsed.ok()) return parsed.status();
  if (absl::StatusOr<transport::Address> address = transport::Address::Parse(target); address.ok()) {
    absl::StatusOr<std::vector<transport::SocketAddress>> resolved = transport::Resolve(*address);
    if (!resolved.ok()) return resolved.status();
    return CreateNamed(
        target, std::make_unique<transport::SocketConnector>(*std::move(resolved), options.socket), options);
  }
  return CreateResolved(
      target,
      [parsed = *std::move(parsed), names = options.names](transport::EventLoop& loop) {
        return NewResolver(parsed, names, loop);
      },
      options);
}

struct Channel::Base {
  Endpoint::Options endpoint;
  std::shared_ptr<Shared> shared;
  std::shared_ptr<transport::LoopGroup> own_loops = nullptr;
  transport::EventLoop* loop = nullptr;
};

absl::StatusOr<Channel::Base> Channel::MakeBase(const ChannelOptions& options) {
  Base base{.endpoint = EndpointOptions(options), .shared = std::make_shared<Shared>()};
  absl::Status valid = ValidateSettings(base.endpoint.session.settings);
  valid.Update(CheckOptions(options));
  if (!valid.ok()) return valid;
  base.endpoint.keep_alive = base.shared;
  if (options.loops != nullptr) {
    base.loop = &options.loops->Next();
    return base;
  }
  absl::StatusOr<std::unique_ptr<transport::LoopGroup>> created =
      transport::LoopGroup::Create({.threads = 1, .name = "ferry-channel", .poll_time = options.poll_time});
  if (!created.ok()) return created.status();
  base.own_loops = *std::move(created);
  base.endpoint.session.keep_alive = base.own_loops;
  base.loop = &base.own_loops->Next();
  return base;
}

absl::StatusOr<std::unique_ptr<Channel>> Channel::CreateOver(std::unique_ptr<transport::Connector> connector,
                                                             const ChannelOptions& options) {
  return CreateNamed("", std::move(connector), options);
}

absl::StatusOr<std::unique_ptr<Channel>> Channel::CreateNamed(std::string_view name,
                                                              std::unique_ptr<transport::Connector> connector,
                                                              const ChannelOptions& options) {
  if (absl::Status valid = CheckPoolOptions(options.pool, /*of_service=*/false); !valid.ok()) return valid;
  absl::StatusOr<Base> base = MakeBase(options);
  if (!base.ok()) return base.status();
  base->endpoint.name = std::string(name);
  std::shared_ptr<CallTarget> target;
  if (WantsPool(options.pool, /*of_service=*/false)) {
    std::shared_ptr<ConnectionPool> pool = ConnectionPool::Create(
        {.pool = options.pool, .endpoint = base->endpoint}, *base->loop, std::move(connector));
    base->loop->Post([pool] { pool->KeepConnected(); });
    target = std::move(pool);
  } else {
    target = Endpoint::Create(base->endpoint, *base->loop, std::move(connector));
  }
  return std::unique_ptr<Channel>(
      new Channel(options, std::move(base->own_loops), std::move(base->shared), std::move(target)));
}

absl::StatusOr<std::unique_ptr<Channel>> Channel::CreateResolved(std::string_view name,
                                                                 Fleet::ResolverFactory make_resolver,
                                                                 const ChannelOptions& options) {
  absl::StatusOr<Base> base = MakeBase(options);
  if (!base.ok()) return base.status();
  base->endpoint.session.keepalive.when_idle = true;
  const Fleet::Options fleet_options{.name = std::string(name),
                                     .endpoint = base->endpoint,
                                     .pool = options.pool,
                                     .balancing = options.balancing,
                                     .outliers = options.outliers,
                                     .retry_budget = options.retry_budget,
                                     .retry = options.retry,
                                     .health_service = options.health_service,
                                     .max_servers = options.max_servers,
                                     .client_id = options.client_id};
  absl::StatusOr<std::shared_ptr<Fleet>> fleet =
      Fleet::Create(fleet_options, *base->loop, std::move(make_resolver),
                    [socket = options.socket](const ResolvedServer& server) {
                      return std::make_unique<transport::SocketConnector>(server.addresses, socket);
                    });
  if (!fleet.ok()) return fleet.status();
  return std::unique_ptr<Channel>(
      new Channel(options, std::move(base->own_loops), std::move(base->shared), *std::move(fleet)));
}

Channel::Channel(const ChannelOptions& options, std::shared_ptr<transport::LoopGroup> own_loops,
                 std::shared_ptr<Shared> shared, std::shared_ptr<CallTarget> target)
    : fork_guard_(target->loop().fork_guard()),
      poll_time_(options.poll_time),
      own_loops_(std::move(own_loops)),
      shared_(std::move(shared)),
      target_(std::move(target)),
      endpoint_(dynamic_cast<Endpoint*>(target_.get())),
      fleet_(dynamic_cast<Fleet*>(target_.get())) {}

// All of it is for the loop's own thread: a guest leaves first, and callbacks that it has left there come
// first.
Channel::~Channel() {
  if (forked()) {
    Abandon();
    return;
  }
  const absl::Status why = absl::CancelledError("the channel was destroyed");
  transport::EventLoop& loop = target_->loop();
  if (transport::EventLoop::InAnyLoop()) {
    // Waiting here could be waiting for a loop that waits for this one: the rest happens when this has
    // returned. What the calls still need, the loops too, goes with the last task.
    if (loop.InLoop()) {
      target_->Close(why);
      loop.PostToOwner([target = target_, own_loops = std::move(own_loops_)] {});
    } else {
      loop.PostToOwner([target = target_, own_loops = std::move(own_loops_), why] { target->Close(why); });
    }
    return;
  }
  absl::Notification closed;
  loop.PostToOwner([this, &why, &closed] {
    target_->Close(why);
    TellWhenDone(*target_, closed, 1000);
  });
  closed.WaitForNotification();
  // A blocking call that has just ended so may still be about to let go of the loop.
  loop.AwaitVisitors();
}

// In a forked process: what the channel has stays for ever. Its end would wait for threads, and change what
// the kernel does for the other process, with which the sockets are shared.
void Channel::Abandon() {
  static_cast<void>(std::make_unique<std::shared_ptr<transport::LoopGroup>>(own_loops_).release());
  static_cast<void>(std::make_unique<std::shared_ptr<Shared>>(shared_).release());
  static_cast<void>(std::make_unique<std::shared_ptr<CallTarget>>(target_).release());
}

// Callbacks that Close has run may have started calls, which fail in their turn; but not for ever.
void Channel::TellWhenDone(CallTarget& target, absl::Notification& closed, int rounds) {
  target.loop().PostToOwner([&target, &closed, rounds] {
    if (target.has_failures() && rounds > 0) return TellWhenDone(target, closed, rounds - 1);
    closed.Notify();
  });
}

std::vector<ConnectionStats> Channel::connections() const {
  std::vector<ConnectionStats> connections;
  if (forked()) return connections;
  transport::EventLoop& loop = target_->loop();
  if (loop.InLoop()) {
    target_->AppendConnections(connections);
    return connections;
  }
  absl::Notification done;
  loop.Post([&] {
    target_->AppendConnections(connections);
    done.Notify();
  });
  done.WaitForNotification();
  return connections;
}

void Channel::StartPrepared(const MethodDescriptor& method, const google::protobuf::MessageLite& request,
                            size_t request_size, const CallOptions& options, ClientCall& call) {
  absl::Status status = fleet_ != nullptr ? fleet_->Route(call, options) : absl::OkStatus();
  if (status.ok()) status = Prepare(method, options, request_size, call);
  if (!status.ok()) {
    return target_->FailLater(call, std::move(status));
  }
  if (call.cancellation == nullptr) return target_->Start(call, request, request_size);
  // The call may end before Start returns, and the channel with it.
  const std::shared_ptr<CallCancellation> cancellation = call.cancellation;
  const std::shared_ptr<transport::LoopGroup> own_loops = own_loops_;
  const std::shared_ptr<CallTarget> target = target_;
  target->Start(call, request, request_size);
  cancellation->Started();
}

// Sets what an ordinary call does not need: a deadline, a head, a place for reply metadata, who may cancel
// it. An error says why the call ends at once.
absl::Status Channel::Prepare(const MethodDescriptor& method, const CallOptions& options, size_t request_size,
                              ClientCall& call) {
  if (call.reply_metadata != nullptr) *call.reply_metadata = {};
  const CallLimits limits = LimitsOf(method, options);
  if (limits.timeout <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError(
        limits.inherited_timeout
            ? absl::StrCat("no time is left for ", method.full_name, ", nothing was sent")
            : absl::StrCat("the timeout of ", method.full_name, " is ", absl::FormatDuration(limits.timeout),
                           ", nothing was sent"));
  }
  if (options.stop_token.stop_requested() || limits.scope_stop.stop_requested()) {
    return absl::CancelledError(
        absl::StrCat(method.full_name, " was cancelled before it was started, nothing was sent"));
  }
  if (limits.timeout != absl::InfiniteDuration()) {
    call.deadline = loop().clock().Now() + limits.timeout;
  }
  if (!options.metadata.empty() || request_size > kMaxFragment) {
    const bool needs_length = NeedsLength(request_size, !options.metadata.empty());
    absl::StatusOr<std::string> head =
        EncodeRequestHead(options.metadata, needs_length ? request_size : 0, kMaxHead);
    if (!head.ok()) return head.status();
    call.head = *std::move(head);
  }
  if (options.stop_token.stop_possible() || limits.scope_stop.stop_possible()) {
    call.cancellation = std::make_shared<CallCancellation>(call, loop(), *target_);
    call.cancellation->Watch(options.stop_token, limits.scope_stop);
  }
  return absl::OkStatus();
}

void Channel::Run(const MethodDescriptor& method, const google::protobuf::MessageLite& request,
                  const CallOptions& options, WaitedCall& call) {
  // The channel may be destroyed as soon as the call has ended.
  const absl::Duration poll_time = poll_time_;
  call.lasting_request = &request;
  const auto start = [&] { Start(method, request, options, call); };
  if (own_loops_ != nullptr) {
    // What is shared lives as long as the target.
    const std::shared_ptr<CallTarget> target = target_;
    return shared_->callers.Run(*target, call, poll_time, start);
  }
  start();
  call.Wait(poll_time);
}

std::shared_ptr<ClientStreamCall> Channel::StartStream(const MethodDescriptor& method,
                                                       const google::protobuf::MessageLite* request,
                                                       const CallOptions& options) {
  const WireSettings& settings = target_->settings();
  auto call = std::make_shared<ClientStreamCall>(loop(), own_loops_, settings.initial_stream_window,
                                                 settings.max_message);
  call->KeepUntilComplete();
  if (forked()) {
    call->ClientCall::End(ForkedError());
    return call;
  }
  call->cancel_waiting = [canceller = canceller()](std::shared_ptr<ClientStreamCall> waiting,
                                                   absl::Status why) {
    canceller.Cancel(std::move(waiting), std::move(why));
  };
  Start(method, request != nullptr ? *request : wire::MessageHead::default_instance(), options, *call);
  return call;
}

}  // namespace ferry
