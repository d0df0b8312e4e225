// What the load program asks of each of the things it compares.
#ifndef FERRY_BENCHMARKS_IMPLEMENTATION_H_
#define FERRY_BENCHMARKS_IMPLEMENTATION_H_

#include <cstddef>
#include <memory>
#include <string>

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

// A Work is a closed loop of calls: each connection keeps `in_flight` of them going. A value.
struct Work {
  Workload workload = Workload::kUnary;
  int connections = 1;
  // On each connection. 1 on one connection is a caller that waits for each answer; more are callbacks that
  // begin the next call.
  int in_flight = 1;
  // Bytes in each request and in each reply.
  size_t payload = 64;
};

// An EchoServer answers until it is destroyed.
class EchoServer {
 public:
  virtual ~EchoServer() = default;
  // "127.0.0.1:41234" or "unix:/path".
  virtual std::string address() const = 0;
};

// An Implementation is one way to carry echo.proto: Ferry, or something to compare it with. Both sides do
// their work on one thread, so that a row is about the same two cores whoever runs it.
class Implementation {
 public:
  virtual ~Implementation() = default;

  // `address` is "127.0.0.1:0" or "unix:/path".
  virtual absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const = 0;

  // Connects, calls until `meter` says to stop, and waits for the calls still in flight. An error if any call
  // failed or came back with anything but its payload.
  virtual absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const = 0;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_IMPLEMENTATION_H_
