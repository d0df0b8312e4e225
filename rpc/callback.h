// What a call without a waiting caller runs at its end.
#ifndef FERRY_RPC_CALLBACK_H_
#define FERRY_RPC_CALLBACK_H_

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ferry {

// Run once, with how the call ended. A function object of at most 16 bytes is kept without an allocation.
// clang-format off
using StatusCallback = absl::AnyInvocable<void(absl::Status) &&>;

// Run once, with the reply or why there is none.
template <typename Reply>
using ReplyCallback = absl::AnyInvocable<void(absl::StatusOr<Reply>) &&>;
// clang-format on

}  // namespace ferry

#endif  // FERRY_RPC_CALLBACK_H_
