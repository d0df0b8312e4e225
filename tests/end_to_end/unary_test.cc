// Calls over every kind of address, in every form, with messages of every size.
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/call_forms.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

class UnaryTest : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Transports, UnaryTest, testing::ValuesIn(AvailableTransports()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           if (info.param == "127.0.0.1:0") return std::string("Tcp4");
                           if (info.param == "[::1]:0") return std::string("Tcp6");
                           if (info.param == "unix") return std::string("Unix");
                           return std::string(info.param == "in-process" ? "InProcess" : "UnixAbstract");
                         });

// Calls every echo in every form.
void ExpectEchoes(Served& served, const Message& request, const std::string& expected_payload) {
  for (const StubMethod& method : kEchoes) {
    for (const Form form : kForms) {
      SCOPED_TRACE(absl::StrCat(method.name, ", ", FormName(form)));
      const absl::StatusOr<Message> reply = Call(*served.stub, method, form, request);
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->id(), request.id());
      EXPECT_EQ(reply->text(), "");
      EXPECT_TRUE(reply->payload() == expected_payload)
          << "payload of " << reply->payload().size() << " bytes";
    }
  }
}

TEST_P(UnaryTest, AnswersInEveryForm) {
  Served served(GetParam());
  ExpectEchoes(served, MessageOf(42, 100), MessageOf(42, 100).payload());
}

TEST_P(UnaryTest, TakesAnEmptyMessageBothWays) {
  Served served(GetParam());
  for (const Form form : kForms) {
    SCOPED_TRACE(FormName(form));
    const absl::StatusOr<Message> reply = Call(*served.stub, kEchoes[1], form, Message());
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->ByteSizeLong(), 0u);
  }
}

TEST_P(UnaryTest, TakesALargeRequestAndALargerReply) {
  Served served(GetParam());
  Message request = MessageOf(7, 271'828);
  request.set_reply_size(314'159);
  ExpectEchoes(served, request, std::string(314'159, 'r'));
}

TEST_P(UnaryTest, TakesMessagesOnBothSidesOfEveryBoundary) {
  Served served(GetParam());
  for (const size_t boundary : {4u * 1024, 32u * 1024, 64u * 1024, 128u * 1024, 256u * 1024}) {
    // A message is a few bytes longer than its payload: both cross the boundary.
    for (size_t size = boundary - 12; size <= boundary + 2; ++size) {
      SCOPED_TRACE(absl::StrCat(size, " bytes"));
      const StubMethod& method = kEchoes[size % 3];
      const absl::StatusOr<Message> reply =
          Call(*served.stub, method, kForms[size % 4], MessageOf(size, size));
      ASSERT_TRUE(reply.ok()) << reply.status();
      ASSERT_TRUE(reply->payload() == MessageOf(size, size).payload());
    }
  }
}

TEST_P(UnaryTest, RunsInlineMethodsOnTheLoopAndOthersElsewhere) {
  Served served(GetParam());
  EXPECT_TRUE(Call(*served.stub, kEchoes[0], Form::kBlockingFresh, Message())->on_loop());
  EXPECT_FALSE(Call(*served.stub, kEchoes[1], Form::kBlockingFresh, Message())->on_loop());
}

TEST_P(UnaryTest, TellsTheHandlerWhoCalls) {
  Served served(GetParam());
  const absl::StatusOr<Message> reply = served.stub->Describe(Message());
  ASSERT_TRUE(reply.ok()) << reply.status();
  if (GetParam() == "127.0.0.1:0") {
    EXPECT_TRUE(absl::StartsWith(reply->peer(), "127.0.0.1:")) << reply->peer();
  } else if (GetParam() == "[::1]:0") {
    EXPECT_TRUE(absl::StartsWith(reply->peer(), "[::1]:")) << reply->peer();
  } else {
    EXPECT_EQ(reply->peer(), GetParam() == "in-process" ? "in-process" : "unix:");
  }
}

TEST_P(UnaryTest, RunsCallsThatAreStartedInsideCallbacks) {
  Served served(GetParam());
  Later<absl::StatusOr<Message>> result;
  served.stub->EchoInline(MessageOf(1, 10), {}, [&](absl::StatusOr<Message> first) {
    served.stub->EchoExecutor(MessageOf(first->id() + 1, 10), {}, [&](absl::StatusOr<Message> second) {
      served.stub->EchoLater(MessageOf(second->id() + 1, 100'000), {},
                             [&](absl::StatusOr<Message> third) { result.Set(std::move(third)); });
    });
  });
  ASSERT_TRUE(result.Wait().ok()) << result.Wait().status();
  EXPECT_EQ(result.Wait()->id(), 3u);
}

TEST_P(UnaryTest, RefusesABlockingCallInsideACallback) {
  Served served(GetParam());
  Later<absl::Status> status;
  served.stub->EchoInline(Message(), {}, [&](const absl::StatusOr<Message>&) {
    status.Set(served.stub->EchoInline(Message()).status());
  });
  EXPECT_EQ(status.Wait().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.Wait().message(), "blocking call on an event loop's thread"));
}

// ---------------------------------------------------------------- The longest message

// A message that is encoded in exactly `size` bytes.
Message MessageOfEncodedSize(size_t size) {
  Message message = MessageOf(5, size);
  message.mutable_payload()->resize(2 * size - message.ByteSizeLong());
  EXPECT_EQ(message.ByteSizeLong(), size);
  return message;
}

TEST(LongestMessageTest, IsAccepted) {
  for (const size_t limit : {size_t{64 * 1024}, size_t{100'000}}) {
    SCOPED_TRACE(limit);
    Served served("127.0.0.1:0", {.threads = 1, .max_message = limit}, {.max_message = limit});
    for (const Form form : kForms) {
      // Off the loop, so that the reply has nothing that the request had not.
      const absl::StatusOr<Message> reply = Call(*served.stub, kEchoes[1], form, MessageOfEncodedSize(limit));
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->ByteSizeLong(), limit);
    }
  }
}

TEST(LongestMessageTest, ALongerRequestIsRefused) {
  for (const size_t limit : {size_t{64 * 1024}, size_t{100'000}}) {
    for (const Form form : kForms) {
      SCOPED_TRACE(absl::StrCat(limit, ", ", FormName(form)));
      Served served("127.0.0.1:0", {.threads = 1, .max_message = limit});
      // The first call does not know the server's limit; the second does.
      for (int i = 0; i < 2; ++i) {
        const absl::Status status =
            Call(*served.stub, kEchoes[0], form, MessageOfEncodedSize(limit + 1)).status();
        EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
        EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat(limit + 1, " bytes, limit is ", limit)))
            << status;
        EXPECT_TRUE(Call(*served.stub, kEchoes[0], form, Message()).ok());
      }
    }
  }
}

TEST(LongestMessageTest, ALongerReplyIsRefused) {
  for (const size_t limit : {size_t{64 * 1024}, size_t{100'000}}) {
    for (const StubMethod& method : kEchoes) {
      SCOPED_TRACE(absl::StrCat(limit, ", ", method.name));
      Served served("127.0.0.1:0", {.threads = 1}, {.max_message = limit});
      Message request;
      request.set_reply_size(limit + 1);
      const absl::Status status = Call(*served.stub, method, Form::kCallbackFresh, request).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat("limit is ", limit))) << status;
      EXPECT_TRUE(Call(*served.stub, method, Form::kCallbackFresh, Message()).ok());
    }
  }
}

}  // namespace
}  // namespace ferry::test::e2e
