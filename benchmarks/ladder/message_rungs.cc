#include <string>

#include "benchmarks/echo.pb.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/transport/check.h"

namespace ferry::bench {

Rungs MessageRungs(const LadderOptions& options) {
  constexpr int kBatch = 1000;
  EchoRequest request;
  request.set_payload(std::string(64, 'x'));
  std::string bytes = request.SerializeAsString();
  const int size = static_cast<int>(bytes.size());
  EchoRequest parsed;
  return {
      Measure(
          "serialise", "the load program's message, 64 bytes", options,
          [&] { FERRY_CHECK(request.SerializeToArray(bytes.data(), size), "does not fit"); }, kBatch),
      Measure(
          "parse", "into a message that is used again", options,
          [&] { FERRY_CHECK(parsed.ParseFromArray(bytes.data(), size), "does not parse"); }, kBatch),
  };
}

}  // namespace ferry::bench
