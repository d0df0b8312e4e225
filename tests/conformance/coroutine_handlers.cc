#include "tests/conformance/coroutine_handlers.h"

#include "absl/time/time.h"
#include "ferry/rpc/waiting.h"
#include "ferry/transport/check.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/script.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {
namespace {

// Waits for the call to be cancelled if that was asked for.
Task<> SleepIfAsked(Script& script) {
  if (!script.sleeps()) co_return;
  script.BeginSleep();
  const absl::Status woken = co_await Sleep(e2e::kLongTime);
  FERRY_CHECK(!woken.ok(), "a call was not cancelled");
}

// Answers one request of a call with a stream of replies.
Task<absl::Status> Answer(Script& script, const Request& request, StreamWriter<Reply>& replies) {
  if (absl::Status taken = script.Take(request); !taken.ok()) co_return taken;
  for (const uint32_t size : request.reply_sizes()) {
    const Reply reply = script.NextReply(size);
    if (!co_await replies.CoWrite(reply)) co_return absl::AbortedError("nobody takes the replies");
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> CoroutineHandlers::CoUnary(ServerContext& context, const Request& request, Reply& reply) {
  Script script(log_, context);
  if (absl::Status taken = script.Take(request); !taken.ok()) co_return script.End(taken);
  co_await SleepIfAsked(script);
  reply = script.NextReply(request.reply_sizes_size() > 0 ? request.reply_sizes(0) : 0);
  co_return script.End(StatusOf(request));
}

Task<absl::Status> CoroutineHandlers::CoUpload(ServerContext& context, StreamReader<Request> requests,
                                               Reply& reply) {
  Script script(log_, context);
  Request request;
  while (co_await requests.CoRead(request)) {
    if (absl::Status taken = script.Take(request); !taken.ok()) co_return script.End(taken);
    if (!request.end()) continue;
    reply = script.NextReply(0);
    co_return script.End(StatusOf(request));
  }
  co_await SleepIfAsked(script);
  reply = script.NextReply(0);
  co_return script.End(absl::OkStatus());
}

Task<absl::Status> CoroutineHandlers::CoDownload(ServerContext& context, const Request& request,
                                                 StreamWriter<Reply> replies) {
  Script script(log_, context);
  const absl::Status answered = co_await Answer(script, request, replies);
  if (!answered.ok()) co_return script.End(answered);
  co_await SleepIfAsked(script);
  co_return script.End(StatusOf(request));
}

Task<absl::Status> CoroutineHandlers::CoConverse(ServerContext& context, StreamReader<Request> requests,
                                                 StreamWriter<Reply> replies) {
  Script script(log_, context);
  Request request;
  while (co_await requests.CoRead(request)) {
    const absl::Status answered = co_await Answer(script, request, replies);
    if (!answered.ok()) co_return script.End(answered);
    if (request.end()) co_return script.End(StatusOf(request));
  }
  co_await SleepIfAsked(script);
  co_return script.End(absl::OkStatus());
}

}  // namespace ferry::test::conformance
