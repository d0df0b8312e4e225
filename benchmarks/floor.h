// The least that carries the same messages: what Ferry is measured against.
#ifndef FERRY_BENCHMARKS_FLOOR_H_
#define FERRY_BENCHMARKS_FLOOR_H_

#include <memory>
#include <string>

#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// The Floor echoes echo.proto's messages over epoll and nothing else: no methods, no calls, no deadlines, no
// errors but death. Requests are parsed, replies built and serialised, and everything that arrives together
// is answered in one write. Answers come in the order of the requests, so that they need no number. Server
// methods are all one to it: Workload is ignored.
class Floor final : public Implementation {
 public:
  enum class Waiting {
    kBlocking,  // sleeps until there is something to read
    kPolling,   // asks again and again without sleeping, on both sides
  };

  explicit Floor(Waiting waiting) : waiting_(waiting) {}

  absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const override;
  absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const override;

 private:
  const Waiting waiting_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_FLOOR_H_
