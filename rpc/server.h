// The server's end of calls.
#ifndef FERRY_RPC_SERVER_H_
#define FERRY_RPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/service.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/listener.h"
#include "ferry/transport/loop_group.h"
#include "ferry/transport/socket_options.h"

namespace ferry {

// ServerOptions are fixed when a server is made.
struct ServerOptions {
  // Event loops, each with a thread; 0 is one for each processor. Ignored if `loops` is set.
  int threads = 0;
  // The loops to run on; not owned, must outlive the server and every call it began.
  transport::LoopGroup* loops = nullptr;

  // Threads for methods that are not inline; 0 is two for each processor and at least 4. Ignored if
  // `executor` is set.
  int executor_threads = 0;
  // How many calls may wait for one of these threads; beyond that calls end with RESOURCE_EXHAUSTED.
  size_t executor_capacity = 4096;
  // Where to run them instead; not owned, must outlive the server and run what it was given.
  Executor* executor = nullptr;

  // Methods that run inline, or do not, whatever their .proto says: {"package.Service/Method", true}.
  std::vector<std::pair<std::string, bool>> run_inline = {};
  // The running time an inline handler may take. A method that repeatedly takes longer runs on the executor
  // for the next 10 seconds.
  absl::Duration inline_budget = absl::Microseconds(50);

  // For how long a loop polls at most before it blocks; it polls only while that pays
  // (transport/poll_policy.h). Zero turns polling off. Ignored if `loops` is set.
  absl::Duration poll_time = absl::Microseconds(50);

  transport::SocketOptions socket = {};
  // Lets other servers listen on the same port at the same time, to share its connections, or take over the
  // path of a Unix socket. For replacing a server: start the new one, then shut down the old. Abstract names
  // cannot be shared.
  bool reuse_port = false;

  // The longest request accepted, in bytes; a longer one ends its call with RESOURCE_EXHAUSTED.
  uint64_t max_message = 64 * 1024 * 1024;
  // Calls in flight on one connection.
  uint32_t max_calls_per_connection = 4095;
  // The metadata of a request, in bytes as encoded: 16,384 to 65,535.
  uint32_t max_metadata = 16 * 1024;
  // Bytes of requests over 4 KiB, and of streamed ones that no handler has read, that are held at once, from
  // one connection and from all; calls beyond that end with RESOURCE_EXHAUSTED.
  size_t max_request_bytes_per_connection = 128 * 1024 * 1024;
  size_t max_request_bytes = 1024 * 1024 * 1024;

  // PING, CANCEL, WINDOW and refused requests that one connection may send within a second; one that sends
  // more is ended. Requests that are served are not counted.
  uint32_t max_control_frames_per_second = 100'000;

  // How long a client may take to say that it speaks our protocol, to send a frame once it has begun it, and
  // to take bytes that wait for it. Its connection is closed then.
  absl::Duration preface_timeout = absl::Seconds(10);
  absl::Duration frame_timeout = absl::Seconds(30);
  absl::Duration write_timeout = absl::Seconds(30);

  // Takes one line of text about something that an operator should know. Thread-safe. Default: standard
  // error.
  void (*log)(std::string_view line) = nullptr;
};

// ServerCounters count what a server has done since it was made.
struct ServerCounters {
  // Calls that were cancelled, or expired, before their handler was started: it was not.
  uint64_t calls_dropped = 0;
  // Calls that were cancelled, or expired, while their handler ran: its answer was not encoded.
  uint64_t answers_dropped = 0;
};

// A Server serves the methods of its services to the clients that connect to its addresses.
//
// Register, then Listen; both Thread-compatible. The rest is Thread-safe. Destroying a server shuts it down
// at once and waits for handlers that run on its own executor and for those that are coroutines, which are
// woken from what they wait for. A handler on the executor may do it, and is then not waited for, so that its
// service must outlive it, or be the server's own. What OnDrain was given may not destroy it.
//
// On an event loop's thread, or in a handler that is a coroutine, destroying it cannot wait, for what it
// would wait for could not go on: it returns when what OnDrain was given has run, and a thread that is made
// for it does the rest. Handlers may run until then, so that the server must own its services and have its
// own loops and executor; otherwise the process ends, and says why.
//
// In a process that was forked since it began to listen, Listen and Serve are FAILED_PRECONDITION, and
// shutting it down and destroying it do nothing.
class Server {
 public:
  explicit Server(ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves the methods of `service`, which is not owned and must outlive the server. A method whose id is
  // that of another is an error that Listen returns. REQUIRES: Listen was not called yet.
  void Register(Service& service);
  // The same, but the server owns `service`: until it has been destroyed and no handler runs any more, be it
  // later than the destructor. A call that a handler has kept does not keep the service, unless the options
  // name an executor: then only the end of the last call says that no handler runs.
  void Register(std::shared_ptr<Service> service);

  // Begins to serve on "host:port", "[v6]:port", "unix:/path" or "unix-abstract:name"; port 0 is any free
  // one. May be called for several addresses. An error says why that cannot be done; the other addresses are
  // not affected.
  absl::Status Listen(std::string_view address);

  // The addresses listened on, in Listen's order, with the ports that were found for port 0.
  std::vector<std::string> addresses() const;

  ServerCounters counters() const;

  // Serves the peer at the other end of `stream`, on one of the loops: for in-process clients and for tests.
  // Registered methods must be in order, as for Listen.
  absl::Status Serve(std::unique_ptr<transport::ByteStream> stream);

  // Runs `task` once when Shutdown begins, or the destructor does without it: on that thread, before a
  // listener is closed or a client told, in the order of these calls. For what sends clients elsewhere
  // (health, names). It must be quick, and may use neither Shutdown nor the destructor. Runs at once, on this
  // thread, if shutting down has begun. What it refers to must live until then; it is destroyed unrun in a
  // process that was forked.
  void OnDrain(absl::AnyInvocable<void()> task);

  // Runs what OnDrain was given, stops listening, refuses new calls, waits up to `grace` for calls in flight
  // to end, then cancels them and closes every connection. Clients, those too whose connections were not
  // accepted yet, are told which calls are not executed: their channels send these over a new connection.
  // Does nothing the second time. Must not be called on a loop's thread.
  void Shutdown(absl::Duration grace);

 private:
  class Core;

  const std::shared_ptr<Core> core_;
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_H_
