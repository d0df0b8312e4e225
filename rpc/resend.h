// Keeping a call's request, so that it can be sent later or again.
#ifndef FERRY_RPC_RESEND_H_
#define FERRY_RPC_RESEND_H_

#include <google/protobuf/message_lite.h>

#include <cstddef>

#include "absl/status/status.h"
#include "ferry/rpc/client_call.h"
#include "ferry/transport/buffer_pool.h"

namespace ferry {

// Keeps the request of a call that cannot be sent yet in a block from `pool`. `size` is
// request.ByteSizeLong(), just called. Thread-safe.
void KeepRequest(ClientCall& call, const google::protobuf::MessageLite& request, size_t size,
                 transport::BufferPool& pool);

// Has the next REQUEST of a call, whose request_size is known, say which attempt it is, from 1 (PROTOCOL.md
// [P6.11]). Whoever has the call.
void SetAttempt(ClientCall& call, int attempt);

// Makes a call that was sent one that waits to be sent: its request, as the session has kept it, is in a
// block again. `why` if that cannot be, for messages of its stream are gone; or FAILED_PRECONDITION if the
// caller has changed the request meanwhile. Whoever has the call, on the loop.
absl::Status PrepareToSendAgain(ClientCall& call, const absl::Status& why, transport::BufferPool& pool);

}  // namespace ferry

#endif  // FERRY_RPC_RESEND_H_
