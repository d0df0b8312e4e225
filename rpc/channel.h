// The client's end of calls to a service.
#ifndef FERRY_RPC_CHANNEL_H_
#define FERRY_RPC_CHANNEL_H_

#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/connection_stats.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/names/new_resolver.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/rpc/retry_policy.h"
#include "ferry/rpc/waiting_callers.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/fork_guard.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/socket_options.h"

namespace ferry {

// ChannelOptions are fixed when a channel is created.
struct ChannelOptions {
  // The loops to run on; not owned, must outlive the channel. Null: the channel has a thread of its own.
  transport::LoopGroup* loops = nullptr;

  transport::SocketOptions socket = {};

  // For how long a thread of the channel, or one that waits for a call, polls at most before it blocks; it
  // polls only while that pays (transport/poll_policy.h). Zero turns polling off. Ignored for the loops if
  // `loops` is set: they have an option of their own.
  absl::Duration poll_time = absl::Microseconds(50);

  // How long one attempt to connect may take, over all the addresses of a name. At least
  // 1 ms.
  absl::Duration connect_timeout = absl::Seconds(10);

  // Connecting again waits for a random time up to a bound, which doubles from the first value to the second
  // with each failure in a row; to a service's servers it is 3 s at most, for calls that have other servers
  // hurry nobody. The first attempt after a connection is lost does not wait, if that lasted for a second or
  // the server has answered on it. From 1 ms; the second value is at least the first.
  absl::Duration min_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(20);

  // When a server that says nothing counts as gone: its connection is closed at most twice this time after
  // its last byte, while calls are in flight; a channel to several servers looks at idle connections, too. At
  // least 1 ms; infinite turns it off.
  absl::Duration keepalive_time = absl::Seconds(20);

  // The longest reply accepted, in bytes; a longer one ends its call with RESOURCE_EXHAUSTED.
  uint64_t max_message = 64 * 1024 * 1024;

  // How many calls may wait for a connection or for a place on it, and how many bytes of requests. Beyond
  // that calls end at once with RESOURCE_EXHAUSTED.
  size_t max_waiting_calls = 10'000;
  size_t max_waiting_bytes = 64 * 1024 * 1024;

  // How many connections there are to each server, and for how long (pool_options.h). By default one, which
  // all calls share.
  PoolOptions pool = {};

  // What follows is for channels to a service of several servers.

  // How the servers are found (names/new_resolver.h).
  ResolverOptions names = {};
  // How each call's server is chosen (balancing/balancer.h).
  BalancingOptions balancing = {};
  // When a server is taken out of use because its calls fail (balancing/outlier_detector.h).
  OutlierDetector::Options outliers = {};
  // How many calls may be sent again, as a share of all (balancing/retry_budget.h).
  RetryBudget::Options retry_budget = {};
  // How a call is sent again, and whether to several servers at once, where neither its own options nor its
  // method's .proto say (retry_policy.h).
  RetryPolicy retry = {};
  // Each server that is connected is asked by the standard health service (health/health.proto) for the
  // health of the service of this name, and gets calls only while it says SERVING, or if it has no health
  // service; empty asks for the server as a whole. Unset: no server is asked, all are taken to serve.
  std::optional<std::string> health_service = std::nullopt;
  // The channel uses so many of the servers at most, which follow from client_id. 0: all of them.
  size_t max_servers = 0;
  // Number the clients of a big fleet 0, 1, 2, ..., and each server has as many clients as the others
  // (balancing/subset.h). Unset: random, and so other servers than other clients use.
  std::optional<uint64_t> client_id = std::nullopt;
};

// A CallCanceller cancels calls of one channel that their callers hold by shared_ptr, whether the channel is
// still there or not.
//
// A value. Thread-safe.
class CallCanceller {
 public:
  CallCanceller(std::weak_ptr<CallTarget> target, std::shared_ptr<transport::LoopGroup> own_loops)
      : target_(std::move(target)), own_loops_(std::move(own_loops)) {}

  // Has `call`, which was started, end with `why` unless it has ended.
  void Cancel(std::shared_ptr<ClientCall> call, absl::Status why) const {
    if (const std::shared_ptr<CallTarget> open = target_.lock()) {
      open->CancelLater(std::move(call), std::move(why));
    }
  }

 private:
  std::weak_ptr<CallTarget> target_;
  std::shared_ptr<transport::LoopGroup> own_loops_;
};

// A Channel carries calls to one server, over a connection that it makes when the first call needs it, and
// makes again when it is lost; or to a service, over connections to its servers that it keeps up
// (names/README.md, balancing/README.md). ChannelOptions::pool is for more connections than one to each
// server. Calls are made through generated stubs.
//
// Thread-safe. Destroying it ends its calls with CANCELLED; unless that happens on a loop's thread (inside a
// callback), every callback has returned before it is destroyed. Services and stubs do not own it.
//
// A call that was surely not executed, for its connection was lost before the request was written or the
// server takes no more calls on it, is sent again over the next connection, whatever the method; at most 5
// times, unless it waits for ready. So is a call of an idempotent method whose connection ends before the
// server has said anything. A streaming call, only while none of its messages was written. Only calls that
// wait for ready outlive a server that takes a connection and ends it, without DRAIN, before it has answered
// any call.
//
// In a process that was forked since, calls end at once with FAILED_PRECONDITION, callbacks being run before
// the call returns; destroying the channel there does nothing, and the server does not notice.
class Channel {
 public:
  // A channel to one server: "host:port", "[v6]:port", "unix:/path" or "unix-abstract:name"; the name of a
  // host is looked up here and now, so this may block, and one that cannot be found is an error. Or to a
  // service, whose servers are found meanwhile and from then on: "dns:///host:port", "dns:///service",
  // "list:///address,address", "file:///path", "etcd:///service" (names/target.h). INVALID_ARGUMENT, with the
  // text and what is wrong with it, for what is neither. Whether anybody listens there is found by the first
  // call.
  static absl::StatusOr<std::unique_ptr<Channel>> Create(std::string_view target,
                                                         const ChannelOptions& options = {});

  // A channel to the service `name`, whose servers the resolver finds that `make_resolver` makes, on the
  // channel's loop. INVALID_ARGUMENT, naming it, for an option that is out of its bounds.
  static absl::StatusOr<std::unique_ptr<Channel>> CreateResolved(std::string_view name,
                                                                 Fleet::ResolverFactory make_resolver,
                                                                 const ChannelOptions& options = {});

  // A channel over whatever `connector` connects to.
  static absl::StatusOr<std::unique_ptr<Channel>> CreateOver(std::unique_ptr<transport::Connector> connector,
                                                             const ChannelOptions& options = {});

  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // For stubs. Starts `call`, which ends exactly once through its Complete, never inside Start. `request` and
  // `options` are read before this returns.
  void Start(const MethodDescriptor& method, const google::protobuf::MessageLite& request,
             const CallOptions& options, ClientCall& call) {
    call.method = &method;
    call.execution = Execution::kNotSent;
    call.wait_for_ready = options.wait_for_ready;
    call.turned_away = 0;
    call.reply_metadata = options.reply_metadata;
    call.deadline = transport::Instant::Infinite();
    if (!call.head.empty()) call.head.clear();
    const size_t size = request.ByteSizeLong();
    const bool plain = call.reply_metadata == nullptr && !options.timeout.has_value() &&
                       method.timeout_us == 0 && options.metadata.empty() && size <= kMaxFragment &&
                       CallScope::Current() == nullptr && options.scope == nullptr &&
                       !options.stop_token.stop_possible();
    if (ABSL_PREDICT_FALSE(!plain)) return StartPrepared(method, request, size, options, call);
    if (endpoint_ != nullptr) return endpoint_->Start(call, request, size);
    absl::Status status = fleet_ != nullptr ? fleet_->Route(call, options) : absl::OkStatus();
    if (ABSL_PREDICT_FALSE(!status.ok())) return target_->FailLater(call, std::move(status));
    target_->Start(call, request, size);
  }

  // For stubs. The same, and waits for the call's end. REQUIRES: not on a loop's thread.
  //
  // A few callers that have the channel for themselves run the channel's loop while they wait, one for all:
  // they send their requests and read their replies without any other thread. They let go of it when calls
  // with callbacks are under way, or many callers.
  void Run(const MethodDescriptor& method, const google::protobuf::MessageLite& request,
           const CallOptions& options, WaitedCall& call);

  // For stubs. Starts a call that streams: with `request`, or a stream of requests if that is null.
  std::shared_ptr<ClientStreamCall> StartStream(const MethodDescriptor& method,
                                                const google::protobuf::MessageLite* request,
                                                const CallOptions& options);

  // The loop that the channel's calls end on, and their callbacks run on. For coroutines: Spawn, BlockOn
  // (spawn.h).
  transport::EventLoop& loop() const { return target_->loop(); }

  // How many servers the channel's service has, and how many of them are connected to and healthy: of a
  // channel to one server, none is known.
  using ServerCounts = Fleet::Counts;
  ServerCounts server_counts() const { return fleet_ != nullptr ? fleet_->counts() : ServerCounts(); }

  // The channel's connections as they are now, and those that are being made; empty in a forked process. The
  // loop looks at them, so this waits for callbacks that run just then. REQUIRES: not on another loop's
  // thread.
  std::vector<ConnectionStats> connections() const;

  // For stubs. Cancels calls of the channel.
  CallCanceller canceller() const { return CallCanceller(target_, own_loops_); }

  // For stubs. Whether this process is not the one that the channel works in, and the error then.
  bool forked() const { return fork_guard_.forked(); }
  absl::Status ForkedError() const { return fork_guard_.Error("channel"); }

  // For stubs. The pool of call objects for replies of this type; lives as long as the channel, and any call
  // of it.
  template <typename Reply>
  ClientCallPool<Reply>* CallPool() {
    // Its mutex may be held for ever; and no calls will be made.
    if (forked()) return nullptr;
    absl::MutexLock lock(&shared_->mutex);
    std::unique_ptr<AnyClientCallPool>& pool = shared_->pools[&kTypeKey<Reply>];
    if (pool == nullptr) pool = std::make_unique<ClientCallPool<Reply>>(loop());
    return static_cast<ClientCallPool<Reply>*>(pool.get());
  }

 private:
  // What a channel lives in.
  struct Base;

  // Its address stands for a type.
  template <typename T>
  static constexpr char kTypeKey = 0;

  // What lasts as long as the endpoint: for calls that end when the channel is gone.
  struct Shared {
    absl::Mutex mutex;
    // By the type of the reply.
    absl::flat_hash_map<const void*, std::unique_ptr<AnyClientCallPool>> pools ABSL_GUARDED_BY(mutex);

    WaitingCallers callers;
  };

  Channel(const ChannelOptions& options, std::shared_ptr<transport::LoopGroup> own_loops,
          std::shared_ptr<Shared> shared, std::shared_ptr<CallTarget> target);

  static absl::StatusOr<Base> MakeBase(const ChannelOptions& options);
  static absl::StatusOr<std::unique_ptr<Channel>> CreateNamed(std::string_view name,
                                                              std::unique_ptr<transport::Connector> connector,
                                                              const ChannelOptions& options);

  void StartPrepared(const MethodDescriptor& method, const google::protobuf::MessageLite& request,
                     size_t request_size, const CallOptions& options, ClientCall& call);
  absl::Status Prepare(const MethodDescriptor& method, const CallOptions& options, size_t request_size,
                       ClientCall& call);
  void Abandon();

  static void TellWhenDone(CallTarget& target, absl::Notification& closed, int rounds);

  const transport::ForkGuard fork_guard_;
  const absl::Duration poll_time_;
  // Null if the options named a group.
  std::shared_ptr<transport::LoopGroup> own_loops_;
  const std::shared_ptr<Shared> shared_;
  // What the calls go to: one of the two, of which the other is null, or a ConnectionPool.
  const std::shared_ptr<CallTarget> target_;
  Endpoint* const endpoint_;
  Fleet* const fleet_;
};

}  // namespace ferry

#endif  // FERRY_RPC_CHANNEL_H_
