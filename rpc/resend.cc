#include "ferry/rpc/resend.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/stream.h"
#include "ferry/rpc/wire.h"

namespace ferry {

void KeepRequest(ClientCall& call, const google::protobuf::MessageLite& request, size_t size,
                 transport::BufferPool& pool) {
  call.request_size = size;
  if (size == 0) return;
  call.request_block = pool.Allocate(size);
  request.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(call.request_block.data()));
}

void SetAttempt(ClientCall& call, int attempt) {
  const bool needs_length = NeedsLength(call.request_size, attempt > 1 || !call.head.empty());
  call.head = HeadOfAttempt(call.head, attempt, needs_length ? call.request_size : 0);
}

absl::Status PrepareToSendAgain(ClientCall& call, const absl::Status& why, transport::BufferPool& pool) {
  if (call.messages != nullptr && !call.messages->Withdraw()) return why;
  if (call.request_block || call.request_size == 0) return absl::OkStatus();
  call.request_block = pool.Allocate(call.request_size);
  if (call.lasting_request == nullptr) {
    std::memcpy(call.request_block.data(), call.request_copy.data(), call.request_size);
  } else if (call.lasting_request->ByteSizeLong() == call.request_size) {
    call.lasting_request->SerializeWithCachedSizesToArray(
        reinterpret_cast<uint8_t*>(call.request_block.data()));
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("the request was changed during the call: ", std::string(why.message())));
  }
  return absl::OkStatus();
}

}  // namespace ferry
