// The forms in which a client may make a call, and a server may answer it, as tables for tests.
#ifndef FERRY_TESTS_END_TO_END_CALL_FORMS_H_
#define FERRY_TESTS_END_TO_END_CALL_FORMS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/callback.h"
#include "tests/end_to_end/conformance.ferry.h"

namespace ferry::test::e2e {

enum class Form { kBlockingFresh, kBlockingReused, kCallbackFresh, kCallbackReused };
inline constexpr Form kForms[] = {Form::kBlockingFresh, Form::kBlockingReused, Form::kCallbackFresh,
                                  Form::kCallbackReused};
const char* FormName(Form form);

// The four functions a stub has for one method.
struct StubMethod {
  const char* name;
  absl::StatusOr<Message> (ConformanceStub::*blocking_fresh)(const Message&, const CallOptions&);
  absl::Status (ConformanceStub::*blocking_reused)(const Message&, Message&, const CallOptions&);
  void (ConformanceStub::*callback_fresh)(const Message&, const CallOptions&, ReplyCallback<Message>);
  void (ConformanceStub::*callback_reused)(const Message&, Message&, const CallOptions&, StatusCallback);
};

// The same with a handler inline, on the executor, and finished later.
extern const StubMethod kEchoes[3];
extern const StubMethod kFails[3];

// Makes a call in one of the forms and waits for its end. A reused reply has something in it before.
absl::StatusOr<Message> Call(ConformanceStub& stub, const StubMethod& method, Form form,
                             const Message& request, const CallOptions& options = {});

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_CALL_FORMS_H_
