#include "ferry/transport/error_number.h"

#include <cstring>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry::transport {
namespace {

constexpr absl::string_view kUrl = "ferry.transport/errno";

}  // namespace

std::string ErrorName(int error) {
  const char* const name = strerrorname_np(error);
  return name != nullptr ? name : absl::StrCat(error);
}

absl::Status WithErrorNumber(absl::Status status, int error) {
  if (error != 0) status.SetPayload(kUrl, absl::Cord(absl::StrCat(error)));
  return status;
}

int ErrorNumberOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kUrl);
  int error = 0;
  return payload.has_value() && absl::SimpleAtoi(std::string(*payload), &error) ? error : 0;
}

int TakeErrorNumber(absl::Status& status) {
  const int error = ErrorNumberOf(status);
  if (error != 0) status.ErasePayload(kUrl);
  return error;
}

}  // namespace ferry::transport
