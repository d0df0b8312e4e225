// A server process for one measurement.
#ifndef FERRY_BENCHMARKS_SERVED_H_
#define FERRY_BENCHMARKS_SERVED_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ferry/benchmarks/rows.h"
#include "ferry/benchmarks/server_process.h"

namespace ferry::bench {

// A Served is a server process at a new address, and the folder that holds the address if it is a Unix
// socket's.
//
// Thread-compatible.
class Served {
 public:
  // Runs the implementation of that name, through ServerProcess with the arguments --role=server, --impl,
  // --listen and --one_processor.
  static absl::StatusOr<std::unique_ptr<Served>> Start(const std::string& implementation, Transport transport,
                                                       bool one_processor);
  ~Served();
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  ServerProcess& process() { return *process_; }

 private:
  explicit Served(std::string directory) : directory_(std::move(directory)) {}

  const std::string directory_;
  std::unique_ptr<ServerProcess> process_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_SERVED_H_
