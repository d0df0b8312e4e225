// What can be measured, by name.
#ifndef FERRY_BENCHMARKS_IMPLEMENTATIONS_H_
#define FERRY_BENCHMARKS_IMPLEMENTATIONS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// "ferry", "floor" or "floor-polling". INVALID_ARGUMENT for anything else.
absl::StatusOr<std::unique_ptr<Implementation>> FindImplementation(const std::string& name);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_IMPLEMENTATIONS_H_
