// What the load program asks of each of the things it compares.
#ifndef FERRY_BENCHMARKS_IMPLEMENTATION_H_
#define FERRY_BENCHMARKS_IMPLEMENTATION_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

// Where and how the server answers an echo.
enum class Workload {
  kUnary,     // on the thread that read the request
  kExecutor,  // on a thread of the server's pool
  kLater,     // by a thread of the service's own, after the handler has returned
};

// What is under way on the connection beside the calls that are measured.
enum class Beside {
  kNothing,
  kUpload,    // requests of 64 MiB, one after the other
  kDownload,  // replies of 64 MiB
};

// A Work is a closed loop of calls: each connection keeps `in_flight` of them going. A value.
struct Work {
  Workload workload = Workload::kUnary;
  int connections = 1;
  // On each connection. 1 on one connection is a caller that waits for each answer; more are callbacks that
  // begin the next call.
  int in_flight = 1;
  // How many threads call so on one connection. More than 1 REQUIRES: connections == 1 and in_flight == 1.
  int threads = 1;
  // Bytes in each request and in each reply.
  size_t payload = 64;
  // Whether each call makes a new reply, instead of using one again.
  bool fresh_reply = false;
  // More than kNothing REQUIRES: connections, in_flight and threads are 1.
  Beside beside = Beside::kNothing;
  // Whether both processes keep to one and the same processor.
  bool one_processor = false;

  // Whether calls are made in the blocking form.
  bool blocking() const { return connections == 1 && in_flight == 1; }

  friend bool operator==(const Work&, const Work&) = default;
};

// An EchoServer answers until it is destroyed.
class EchoServer {
 public:
  virtual ~EchoServer() = default;
  // "127.0.0.1:41234" or "unix:/path".
  virtual std::string address() const = 0;
};

class EchoRequest;

// A Caller begins calls over one connection, in the callback form.
//
// Thread-compatible. All calls have ended before it is destroyed.
class Caller {
 public:
  // Run once, on whatever thread, with how the call ended. An error too if it came back with anything but its
  // payload. A function object of at most 16 bytes is kept without an allocation.
  // clang-format off
  using Done = absl::AnyInvocable<void(const absl::Status&) &&>;
  // clang-format on

  virtual ~Caller() = default;
  // Does not wait. `request` is read before this returns.
  virtual void Start(const EchoRequest& request, Done done) = 0;
};

// An Implementation is one way to carry echo.proto: Ferry, or something to compare it with.
class Implementation {
 public:
  virtual ~Implementation() = default;

  // `address` is "127.0.0.1:0" or "unix:/path".
  virtual absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const = 0;

  // Connects, calls until `meter` says to stop, and waits for the calls still in flight. An error if any call
  // failed or came back with anything but its payload.
  virtual absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const = 0;

  // A caller whose calls can begin at any time. UNIMPLEMENTED if this can only run closed loops.
  virtual absl::StatusOr<std::unique_ptr<Caller>> NewCaller(const std::string& address) const;
};

// An implementation and what it is called.
struct NamedImplementation {
  std::string_view name;
  std::unique_ptr<Implementation> (*make)();
};
using Implementations = std::vector<NamedImplementation>;

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_IMPLEMENTATION_H_
