#include "ferry/rpc/server.h"

#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "ferry/rpc/call_scope.h"
#include "ferry/rpc/server_session.h"
#include "ferry/rpc/thread_pool.h"
#include "ferry/transport/address.h"
#include "ferry/transport/check.h"
#include "ferry/transport/signals_blocked.h"

namespace ferry {
namespace {

using DrainTask = absl::AnyInvocable<void()>;
using Services = std::vector<std::shared_ptr<Service>>;

void LogToStandardError(std::string_view line) {
  std::fprintf(stderr, "ferry: %.*s\n", static_cast<int>(line.size()), line.data());
}

// Keeps what a handler stands on until its thread has ended.
void KeepForThisThread(std::shared_ptr<void> kept) {
  static thread_local std::vector<std::shared_ptr<void>> all;
  all.push_back(std::move(kept));
}

int Processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

WireSettings SettingsOf(const ServerOptions& options) {
  WireSettings settings;
  settings.max_message = options.max_message;
  settings.max_streams = options.max_calls_per_connection + 1;
  settings.max_head = options.max_metadata;
  settings.features = kFlowControlFeature | kStreamingFeature;
  return settings;
}

}  // namespace

// A Core is what a server's sessions, listeners and calls hold on to: it lives until the last of them is
// gone.
class Server::Core final : public ServerSession::Shared,
                           public transport::Listener::Handler,
                           public std::enable_shared_from_this<Server::Core> {
 public:
  explicit Core(ServerOptions server_options)
      : Shared({.budget = server_options.inline_budget}, server_options.max_request_bytes),
        options(std::move(server_options)) {
    settings = SettingsOf(options);
    connection.limits = settings.frame_limits();
    connection.wait_for_preface = true;
    connection.preface_timeout = options.preface_timeout;
    connection.frame_timeout = options.frame_timeout;
    connection.write_timeout = options.write_timeout;
    max_request_bytes_per_connection = options.max_request_bytes_per_connection;
    max_control_frames_per_second = options.max_control_frames_per_second;
    log = options.log != nullptr ? options.log : &LogToStandardError;
  }

  // Serves the methods of `service`; `owned` is null or owns it.
  void Register(Service& service, std::shared_ptr<Service> owned) ABSL_LOCKS_EXCLUDED(start_mutex);

  // Makes threads and freezes the methods, the first time. Returns what was wrong with the options or
  // registrations.
  absl::Status Start() ABSL_LOCKS_EXCLUDED(start_mutex);

  // A new connection, on its loop.
  void OnAccepted(std::unique_ptr<transport::ByteStream> stream, transport::EventLoop& loop) override;
  void OnProblem(const std::string& line) override { log(line); }
  void OnSessionEnded(ServerSession& session) override ABSL_LOCKS_EXCLUDED(mutex);

  // Runs `task` for every open session, on its loop.
  void ForEachSession(void (*task)(ServerSession& session)) ABSL_LOCKS_EXCLUDED(mutex);

  // Waits until no session is open; whether that was so before `timeout` was over.
  bool WaitForSessions(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mutex);

  // The parts of the end: tells of it, and whether this is the first time; closes what is open; waits for
  // what runs and ends the threads.
  bool BeginDrain() ABSL_LOCKS_EXCLUDED(mutex);
  void CloseAll(absl::Duration grace) ABSL_LOCKS_EXCLUDED(mutex);
  void StopThreads();
  // Then nothing is called in a service any more: calls that were not finished yet know none.
  Services TakeServices() ABSL_LOCKS_EXCLUDED(start_mutex);

  // Whether nothing that a handler or a loop uses may go when the server goes.
  bool OwnsAll() const { return !borrows_service && options.loops == nullptr && options.executor == nullptr; }

  // Whether the threads are another process's.
  bool forked() const { return loops != nullptr && loops->loop(0).fork_guard().forked(); }

  const ServerOptions options;
  absl::Mutex start_mutex;
  // The first error of Register.
  absl::Status registered ABSL_GUARDED_BY(start_mutex);
  Services services ABSL_GUARDED_BY(start_mutex);
  // Whether there is a service that is not among them. Constant once started.
  bool borrows_service = false;
  bool started ABSL_GUARDED_BY(start_mutex) = false;
  // Constant once started.
  transport::LoopGroup* loops = nullptr;

  absl::Mutex mutex;
  std::vector<std::unique_ptr<transport::Listener>> listeners ABSL_GUARDED_BY(mutex);
  absl::flat_hash_set<std::shared_ptr<ServerSession>> sessions ABSL_GUARDED_BY(mutex);
  // What OnDrain was given; empty once Shutdown has begun to run it.
  std::vector<DrainTask> drain_tasks ABSL_GUARDED_BY(mutex);
  bool drain_begun ABSL_GUARDED_BY(mutex) = false;
  // Connections that come now are drained.
  bool shutting_down ABSL_GUARDED_BY(mutex) = false;
  // No connections are taken any more: while shutting down those are that have waited to be.
  bool shut_down ABSL_GUARDED_BY(mutex) = false;

  // Null if the options named others. The server ends their threads before it goes. They themselves stay: a
  // call that is finished later, or just then, may still post to a loop, or want to switch to the executor.
  std::unique_ptr<ThreadPool> own_executor;
  std::unique_ptr<transport::LoopGroup> own_loops;

 private:
  bool NoSessions() const ABSL_SHARED_LOCKS_REQUIRED(mutex) { return sessions.empty(); }
};

void Server::Core::Register(Service& service, std::shared_ptr<Service> owned) {
  absl::MutexLock lock(&start_mutex);
  FERRY_CHECK(!started, "Server::Register was called after Listen");
  registered.Update(methods.Add(service));
  if (owned == nullptr) {
    borrows_service = true;
  } else {
    services.push_back(std::move(owned));
  }
}

absl::Status Server::Core::Start() {
  absl::MutexLock lock(&start_mutex);
  if (!registered.ok()) return registered;
  if (started) return absl::OkStatus();
  if (absl::Status valid = ValidateSettings(settings); !valid.ok()) return valid;
  for (const auto& [name, run_inline] : options.run_inline) {
    if (absl::Status set = methods.SetInline(name, run_inline); !set.ok()) return set;
  }
  loops = options.loops;
  if (loops == nullptr) {
    const size_t threads = static_cast<size_t>(options.threads > 0 ? options.threads : Processors());
    absl::StatusOr<std::unique_ptr<transport::LoopGroup>> created = transport::LoopGroup::Create(
        {.threads = threads, .name = "ferry-server", .poll_time = options.poll_time});
    if (!created.ok()) return created.status();
    own_loops = *std::move(created);
    loops = own_loops.get();
  }
  executor = options.executor;
  if (executor == nullptr) {
    const int threads =
        options.executor_threads > 0 ? options.executor_threads : std::max(4, 2 * Processors());
    own_executor = std::make_unique<ThreadPool>(
        ThreadPool::Options{.threads = threads, .capacity = options.executor_capacity});
    executor = own_executor.get();
  }
  methods.PrepareFor(loops->size());
  started = true;
  return absl::OkStatus();
}

void Server::Core::OnAccepted(std::unique_ptr<transport::ByteStream> stream, transport::EventLoop& loop) {
  size_t index = 0;
  while (&loops->loop(index) != &loop) ++index;
  bool draining;
  auto session = std::make_shared<ServerSession>(shared_from_this(), loop, index, std::move(stream));
  {
    absl::MutexLock lock(&mutex);
    if (shut_down) return;
    draining = shutting_down;
    sessions.insert(session);
  }
  session->Begin();
  if (draining) session->Drain();
}

void Server::Core::OnSessionEnded(ServerSession& session) {
  // Something of the session's is on the stack: it lives on to the end of this task.
  session.loop().Post([ended = session.shared_from_this()] {});
  absl::MutexLock lock(&mutex);
  sessions.erase(session.shared_from_this());
}

void Server::Core::ForEachSession(void (*task)(ServerSession& session)) {
  absl::MutexLock lock(&mutex);
  for (const std::shared_ptr<ServerSession>& session : sessions) {
    session->loop().Post([session, task] { task(*session); });
  }
}

bool Server::Core::WaitForSessions(absl::Duration timeout) {
  absl::MutexLock lock(&mutex);
  return mutex.AwaitWithTimeout(absl::Condition(this, &Core::NoSessions), timeout);
}

bool Server::Core::BeginDrain() {
  std::vector<DrainTask> tasks;
  {
    absl::MutexLock lock(&mutex);
    if (std::exchange(drain_begun, true)) return false;
    tasks.swap(drain_tasks);
  }
  for (DrainTask& task : tasks) task();
  return true;
}

void Server::Core::CloseAll(absl::Duration grace) {
  std::vector<std::unique_ptr<transport::Listener>> closing;
  {
    absl::MutexLock lock(&mutex);
    shutting_down = true;
    closing.swap(listeners);
  }
  closing.clear();
  {
    absl::MutexLock lock(&mutex);
    shut_down = true;
  }
  ForEachSession([](ServerSession& session) { session.Drain(); });
  if (WaitForSessions(grace)) return;
  ForEachSession([](ServerSession& session) { session.Close(absl::CancelledError("the server shut down")); });
  WaitForSessions(absl::InfiniteDuration());
}

void Server::Core::StopThreads() {
  // Waits for handlers: nothing may run in a service that its owner is about to destroy.
  if (own_executor != nullptr) own_executor->Stop();
  coroutines->AwaitNone();
  if (own_loops != nullptr) own_loops->Stop();
}

Services Server::Core::TakeServices() {
  absl::MutexLock lock(&start_mutex);
  return std::move(services);
}

// ---------------------------------------------------------------- Server

Server::Server(ServerOptions options) : core_(std::make_shared<Core>(std::move(options))) {}

Server::~Server() {
  if (core_->forked()) {
    // Its threads are not here, and its sockets are the other process's: all stays for ever.
    static_cast<void>(std::make_unique<std::shared_ptr<Core>>(core_).release());
    return;
  }
  const CallScope* const scope = CallScope::Current();
  const bool in_coroutine = scope != nullptr && scope->counted_in() == core_->coroutines.get();
  if (transport::EventLoop::InAnyLoop() || in_coroutine) {
    FERRY_CHECK(
        core_->OwnsAll(),
        "a Server was destroyed on an event loop's thread, or in a handler of its own that is a coroutine, "
        "but does not own its services, loops and executor");
    const bool first = core_->BeginDrain();
    const transport::SignalsBlocked blocked;
    std::thread ender([core = core_, first] {
      if (first) core->CloseAll(absl::ZeroDuration());
      core->StopThreads();
      core->TakeServices();
    });
    pthread_setname_np(ender.native_handle(), "ferry-end");
    ender.detach();
    return;
  }
  Shutdown(absl::ZeroDuration());
  const bool in_handler = core_->own_executor != nullptr && core_->own_executor->InPool();
  core_->StopThreads();
  // Who knows when handlers on others' executors have ended: the services stay until the last call has.
  if (core_->own_executor == nullptr && core_->options.executor != nullptr) return;
  auto services = std::make_shared<Services>(core_->TakeServices());
  if (!in_handler) return;
  KeepForThisThread(core_);
  KeepForThisThread(std::move(services));
}

void Server::Register(Service& service) { core_->Register(service, nullptr); }

void Server::Register(std::shared_ptr<Service> service) {
  Service& served = *service;
  core_->Register(served, std::move(service));
}

absl::Status Server::Listen(std::string_view address) {
  absl::StatusOr<transport::Address> parsed = transport::Address::Parse(address);
  if (!parsed.ok()) return parsed.status();
  if (absl::Status started = core_->Start(); !started.ok()) return started;
  if (core_->forked()) return core_->loops->loop(0).fork_guard().Error("server");
  const transport::Listener::Options options{.socket = core_->options.socket,
                                             .reuse_port = core_->options.reuse_port};
  absl::StatusOr<std::unique_ptr<transport::Listener>> listener =
      transport::Listener::Create(*parsed, options, *core_->loops, core_);
  if (!listener.ok()) return listener.status();
  {
    absl::MutexLock lock(&core_->mutex);
    if (!core_->shutting_down) {
      core_->listeners.push_back(*std::move(listener));
      return absl::OkStatus();
    }
  }
  return absl::FailedPreconditionError("the server is shut down");
}

std::vector<std::string> Server::addresses() const {
  std::vector<std::string> addresses;
  absl::MutexLock lock(&core_->mutex);
  for (const auto& listener : core_->listeners) addresses.push_back(listener->address());
  return addresses;
}

ServerCounters Server::counters() const {
  return {.calls_dropped = core_->calls_dropped.load(std::memory_order_relaxed),
          .answers_dropped = core_->answers_dropped.load(std::memory_order_relaxed)};
}

absl::Status Server::Serve(std::unique_ptr<transport::ByteStream> stream) {
  if (absl::Status started = core_->Start(); !started.ok()) return started;
  if (core_->forked()) return core_->loops->loop(0).fork_guard().Error("server");
  transport::EventLoop& loop = core_->loops->Next();
  loop.Post([core = core_, &loop, stream = std::move(stream)]() mutable {
    core->OnAccepted(std::move(stream), loop);
  });
  return absl::OkStatus();
}

void Server::OnDrain(DrainTask task) {
  {
    absl::MutexLock lock(&core_->mutex);
    if (!core_->drain_begun) {
      core_->drain_tasks.push_back(std::move(task));
      return;
    }
  }
  task();
}

void Server::Shutdown(absl::Duration grace) {
  FERRY_CHECK(!transport::EventLoop::InAnyLoop(), "Server::Shutdown was called on an event loop's thread");
  if (core_->forked()) return;
  if (core_->BeginDrain()) core_->CloseAll(grace);
}

}  // namespace ferry
