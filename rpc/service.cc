#include "ferry/rpc/service.h"

#include "absl/strings/str_cat.h"

namespace ferry {

absl::Status UnimplementedMethod(const MethodDescriptor& method) {
  return absl::UnimplementedError(absl::StrCat("method ", method.full_name, " is not implemented"));
}

}  // namespace ferry
