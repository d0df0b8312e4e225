#include "ferry/benchmarks/implementations.h"

#include "absl/strings/str_cat.h"
#include "ferry/benchmarks/ferry_echo.h"
#include "ferry/benchmarks/floor.h"

namespace ferry::bench {

absl::StatusOr<std::unique_ptr<Implementation>> FindImplementation(const std::string& name) {
  if (name == "ferry") return std::make_unique<FerryEcho>();
  if (name == "floor") return std::make_unique<Floor>(Floor::Waiting::kBlocking);
  if (name == "floor-polling") return std::make_unique<Floor>(Floor::Waiting::kPolling);
  return absl::InvalidArgumentError(absl::StrCat("there is no implementation ", name));
}

}  // namespace ferry::bench
