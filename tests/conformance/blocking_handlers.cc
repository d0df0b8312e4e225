#include "tests/conformance/blocking_handlers.h"

#include "absl/synchronization/notification.h"
#include "ferry/transport/check.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/script.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {
namespace {

// Waits for the call to be cancelled if that was asked for.
void SleepIfAsked(Script& script) {
  if (!script.sleeps()) return;
  absl::Notification cancelled;
  script.context().OnCancel([&cancelled] { cancelled.Notify(); });
  script.BeginSleep();
  FERRY_CHECK(cancelled.WaitForNotificationWithTimeout(e2e::kLongTime), "a call was not cancelled");
}

// Answers one request of a call with a stream of replies.
absl::Status Answer(Script& script, const Request& request, StreamWriter<Reply>& replies) {
  if (absl::Status taken = script.Take(request); !taken.ok()) return taken;
  for (const uint32_t size : request.reply_sizes()) {
    if (!replies.Write(script.NextReply(size))) return absl::AbortedError("nobody takes the replies");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BlockingHandlers::Unary(ServerContext& context, const Request& request, Reply& reply) {
  Script script(log_, context);
  if (absl::Status taken = script.Take(request); !taken.ok()) return script.End(taken);
  SleepIfAsked(script);
  reply = script.NextReply(request.reply_sizes_size() > 0 ? request.reply_sizes(0) : 0);
  return script.End(StatusOf(request));
}

absl::Status BlockingHandlers::Upload(ServerContext& context, StreamReader<Request>& requests, Reply& reply) {
  Script script(log_, context);
  Request request;
  while (requests.Read(request)) {
    if (absl::Status taken = script.Take(request); !taken.ok()) return script.End(taken);
    if (!request.end()) continue;
    reply = script.NextReply(0);
    return script.End(StatusOf(request));
  }
  SleepIfAsked(script);
  reply = script.NextReply(0);
  return script.End(absl::OkStatus());
}

absl::Status BlockingHandlers::Download(ServerContext& context, const Request& request,
                                        StreamWriter<Reply>& replies) {
  Script script(log_, context);
  if (absl::Status answered = Answer(script, request, replies); !answered.ok()) return script.End(answered);
  SleepIfAsked(script);
  return script.End(StatusOf(request));
}

absl::Status BlockingHandlers::Converse(ServerContext& context, StreamReader<Request>& requests,
                                        StreamWriter<Reply>& replies) {
  Script script(log_, context);
  Request request;
  while (requests.Read(request)) {
    if (absl::Status answered = Answer(script, request, replies); !answered.ok()) return script.End(answered);
    if (request.end()) return script.End(StatusOf(request));
  }
  SleepIfAsked(script);
  return script.End(absl::OkStatus());
}

}  // namespace ferry::test::conformance
