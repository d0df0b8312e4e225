// How calls fail, and that their connection goes on.
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

using absl::StatusCode;

// Calls every failing method in every form.
void ExpectFailures(Served& served, const Message& request, const absl::Status& expected) {
  for (const StubMethod& method : kFails) {
    for (const Form form : kForms) {
      SCOPED_TRACE(absl::StrCat(method.name, ", ", FormName(form)));
      EXPECT_EQ(Call(*served.stub, method, form, request).status(), expected);
    }
  }
}

Message FailureRequest(const absl::Status& status) {
  Message request;
  request.set_code(static_cast<int>(status.code()));
  request.set_text(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& value) {
    (*request.mutable_details())[std::string(type_url)] = std::string(value);
  });
  return request;
}

TEST(StatusTest, EveryCodeArrives) {
  Served served;
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<StatusCode>(code), absl::StrCat("the text of ", code));
    ExpectFailures(served, FailureRequest(status), status);
  }
}

TEST(StatusTest, AMessageArrivesAsItIs) {
  Served served;
  const std::string kMessages[] = {
      "",
      "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n",
      "100% of %00 and \"quotes\"",
      std::string(10'000, 'm'),
  };
  for (const std::string& message : kMessages) {
    SCOPED_TRACE(message.substr(0, 50));
    const absl::Status status = absl::DataLossError(message);
    ExpectFailures(served, FailureRequest(status), status);
  }
}

TEST(StatusTest, DetailsArriveAsTheyAre) {
  Served served;
  absl::Status status = absl::AbortedError("with details");
  status.SetPayload("type.googleapis.com/example.Empty", absl::Cord());
  status.SetPayload("type.googleapis.com/example.Text", absl::Cord("text ☺"));
  ExpectFailures(served, FailureRequest(status), status);
}

TEST(StatusTest, AMethodThatNobodyOverridesIsUnimplemented) {
  Served served;
  for (const Form form : kForms) {
    SCOPED_TRACE(FormName(form));
    const StubMethod missing = {"missing", &ConformanceStub::Missing, &ConformanceStub::Missing,
                                &ConformanceStub::Missing, &ConformanceStub::Missing};
    const absl::Status status = Call(*served.stub, missing, form, Message()).status();
    EXPECT_EQ(status,
              absl::UnimplementedError("method ferry.test.e2e.Conformance/Missing is not implemented"));
    EXPECT_TRUE(Call(*served.stub, kEchoes[0], form, Message()).ok());
  }
  EXPECT_EQ(served.stub->MissingInline(Message()).status(),
            absl::UnimplementedError("method ferry.test.e2e.Conformance/MissingInline is not implemented"));
}

TEST(StatusTest, AServiceThatIsNotRegisteredIsUnimplemented) {
  TestOther service;
  Server server({.threads = 1});
  server.Register(service);
  ASSERT_TRUE(server.Listen("127.0.0.1:0").ok());
  const std::unique_ptr<Channel> channel = ChannelTo(server.addresses()[0]);
  ConformanceStub conformance(*channel);
  OtherStub other(*channel);
  for (const Message& request : {Message(), MessageOf(1, 200'000)}) {
    const absl::Status status = conformance.EchoInline(request).status();
    EXPECT_EQ(status.code(), StatusCode::kUnimplemented) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "no method has id 0x")) << status;
    const absl::StatusOr<Message> reply = other.Echo(MessageOf(9, 200'000));
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->id(), 9u);
  }
}

TEST(StatusTest, ACallThatItsHandlerDropsIsInternal) {
  Served served;
  Later<absl::Status> ended;
  served.stub->Hold(Message(), {}, [&](const absl::StatusOr<Message>& reply) { ended.Set(reply.status()); });
  { const HeldCall dropped = served.service.TakeHeld(); }
  EXPECT_EQ(ended.Wait(), absl::InternalError("the handler dropped the call without finishing it"));
}

TEST(StatusTest, CallsBeyondTheExecutorsQueueAreRefused) {
  Served served("127.0.0.1:0", {.threads = 1, .executor_threads = 1, .executor_capacity = 1});
  Later<absl::Status> running, waiting;
  served.stub->Block(Message(), {},
                     [&](const absl::StatusOr<Message>& reply) { running.Set(reply.status()); });
  ASSERT_TRUE(served.service.WaitForBlocked(1));
  served.stub->Block(Message(), {},
                     [&](const absl::StatusOr<Message>& reply) { waiting.Set(reply.status()); });
  const absl::Status refused = served.stub->EchoExecutor(Message()).status();
  EXPECT_EQ(refused,
            absl::ResourceExhaustedError("the server's queue is full: 1 calls wait, which is the limit"));
  EXPECT_TRUE(served.stub->EchoInline(Message()).ok());
  served.service.Unblock();
  EXPECT_TRUE(running.Wait().ok());
  EXPECT_TRUE(waiting.Wait().ok());
}

}  // namespace
}  // namespace ferry::test::e2e
