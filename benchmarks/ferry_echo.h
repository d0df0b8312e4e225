// Ferry, as the load program runs it.
#ifndef FERRY_BENCHMARKS_FERRY_ECHO_H_
#define FERRY_BENCHMARKS_FERRY_ECHO_H_

#include <memory>
#include <string>

#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// A FerryEcho is a server with one event loop, and clients of one event loop with a channel for each
// connection.
class FerryEcho final : public Implementation {
 public:
  absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const override;
  absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const override;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_FERRY_ECHO_H_
