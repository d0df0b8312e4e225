#include "ferry/rpc/call_failure.h"

#include <string>

#include "absl/strings/cord.h"

namespace ferry {

std::optional<CallFailure> FailureOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kCallFailureUrl);
  CallFailure failure;
  if (!payload.has_value() || !failure.ParseFromString(std::string(*payload))) return std::nullopt;
  return failure;
}

void SetFailure(const CallFailure& failure, absl::Status& status) {
  status.SetPayload(kCallFailureUrl, absl::Cord(failure.SerializeAsString()));
}

}  // namespace ferry
