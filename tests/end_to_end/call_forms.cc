#include "tests/end_to_end/call_forms.h"

#include <utility>

#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using Stub = ConformanceStub;

Message UsedMessage() {
  Message used;
  used.set_id(1);
  used.set_payload("of another call");
  used.set_text("of another call");
  return used;
}

absl::StatusOr<Message> ReplyOr(absl::Status status, Message reply) {
  if (!status.ok()) return status;
  return reply;
}

}  // namespace

const StubMethod kEchoes[3] = {
    {"inline", &Stub::EchoInline, &Stub::EchoInline, &Stub::EchoInline, &Stub::EchoInline},
    {"executor", &Stub::EchoExecutor, &Stub::EchoExecutor, &Stub::EchoExecutor, &Stub::EchoExecutor},
    {"later", &Stub::EchoLater, &Stub::EchoLater, &Stub::EchoLater, &Stub::EchoLater},
};

const StubMethod kFails[3] = {
    {"inline", &Stub::FailInline, &Stub::FailInline, &Stub::FailInline, &Stub::FailInline},
    {"executor", &Stub::FailExecutor, &Stub::FailExecutor, &Stub::FailExecutor, &Stub::FailExecutor},
    {"later", &Stub::FailLater, &Stub::FailLater, &Stub::FailLater, &Stub::FailLater},
};

const char* FormName(Form form) {
  switch (form) {
    case Form::kBlockingFresh:
      return "blocking, fresh reply";
    case Form::kBlockingReused:
      return "blocking, reused reply";
    case Form::kCallbackFresh:
      return "callback, fresh reply";
    case Form::kCallbackReused:
      return "callback, reused reply";
  }
  return "";
}

absl::StatusOr<Message> Call(ConformanceStub& stub, const StubMethod& method, Form form,
                             const Message& request, const CallOptions& options) {
  Message reply = UsedMessage();
  switch (form) {
    case Form::kBlockingFresh:
      return (stub.*method.blocking_fresh)(request, options);
    case Form::kBlockingReused: {
      absl::Status status = (stub.*method.blocking_reused)(request, reply, options);
      return ReplyOr(std::move(status), std::move(reply));
    }
    case Form::kCallbackFresh: {
      Later<absl::StatusOr<Message>> result;
      (stub.*method.callback_fresh)(request, options,
                                    [&](absl::StatusOr<Message> r) { result.Set(std::move(r)); });
      return std::move(result.Wait());
    }
    case Form::kCallbackReused: {
      Later<absl::Status> status;
      (stub.*method.callback_reused)(request, reply, options,
                                     [&](absl::Status s) { status.Set(std::move(s)); });
      absl::Status ended = status.Wait();
      return ReplyOr(std::move(ended), std::move(reply));
    }
  }
  return absl::InternalError("no such form");
}

}  // namespace ferry::test::e2e
