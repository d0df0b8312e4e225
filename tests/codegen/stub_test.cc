// The client's side of generated code.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/task.h"
#include "tests/codegen/protos/no_package.ferry.h"

namespace {

using tests::codegen::everyday::Key;
using tests::codegen::everyday::Key_Range;

// Looks "x" up as the range from "x" to "x", and finds nothing else.
absl::Status Look(const Key& request, Key_Range& reply) {
  if (request.name() != "x") return absl::NotFoundError("only x");
  reply.set_first("x");
  reply.set_last("x");
  return absl::OkStatus();
}

// What an application's test would write: one function a method.
class FakeEcho final : public CodegenTestEchoStubInterface {
 public:
  using CodegenTestEchoStubInterface::Echo;
  using CodegenTestEchoStubInterface::Look;

  absl::Status Echo(const CodegenTestText&, CodegenTestText&, const ferry::CallOptions&) override {
    return absl::OkStatus();
  }
  absl::Status Look(const Key& request, Key_Range& reply, const ferry::CallOptions& options) override {
    last_timeout = options.timeout;
    return ::Look(request, reply);
  }

  std::optional<absl::Duration> last_timeout;
};

class EchoService final : public CodegenTestEchoService {
 public:
  absl::Status Look(ferry::ServerContext&, const Key& request, Key_Range& reply) override {
    return ::Look(request, reply);
  }
};

// The forms are the same to their callers, whether they call a server or a fake.
class StubFormsTest : public testing::TestWithParam<bool> {
 protected:
  StubFormsTest() {
    server_.Register(service_);
    channel_ = *ferry::CreateInProcessChannel(server_);
    if (GetParam()) {
      stub_ = std::make_unique<FakeEcho>();
    } else {
      stub_ = std::make_unique<CodegenTestEchoStub>(*channel_);
    }
  }

  static Key KeyOf(const std::string& name) {
    Key key;
    key.set_name(name);
    return key;
  }

  EchoService service_;
  ferry::Server server_{{.threads = 1}};
  std::unique_ptr<ferry::Channel> channel_;
  std::unique_ptr<CodegenTestEchoStubInterface> stub_;
};

INSTANTIATE_TEST_SUITE_P(ServerAndFake, StubFormsTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Fake" : "Server"; });

TEST_P(StubFormsTest, BlockingReturnsAFreshReply) {
  const absl::StatusOr<Key_Range> reply = stub_->Look(KeyOf("x"));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->last(), "x");
}

TEST_P(StubFormsTest, BlockingReturnsAnError) {
  EXPECT_EQ(stub_->Look(KeyOf("y")).status(), absl::NotFoundError("only x"));
}

TEST_P(StubFormsTest, BlockingFillsTheCallersReply) {
  Key_Range reply;
  EXPECT_EQ(stub_->Look(KeyOf("x"), reply), absl::OkStatus());
  EXPECT_EQ(reply.last(), "x");
}

TEST_P(StubFormsTest, TakesOptionsInBraces) {
  Key_Range reply;
  EXPECT_TRUE(stub_->Look(KeyOf("x"), {.timeout = absl::Seconds(30)}).ok());
  EXPECT_TRUE(stub_->Look(KeyOf("x"), {}).ok());
  EXPECT_TRUE(stub_->Look(KeyOf("x"), reply, {.wait_for_ready = true}).ok());
}

TEST_P(StubFormsTest, CoroutineGetsAFreshReplyOrAnError) {
  auto look = [](CodegenTestEchoStubInterface& stub, const Key& key) -> ferry::Task<absl::Status> {
    const absl::StatusOr<Key_Range> reply = co_await stub.CoLook(key, {.timeout = absl::Seconds(30)});
    if (!reply.ok()) co_return reply.status();
    co_return reply->last() == "x" ? absl::OkStatus() : absl::InternalError("another range");
  };
  EXPECT_EQ(ferry::BlockOn(channel_->loop(), look(*stub_, KeyOf("x"))), absl::OkStatus());
  EXPECT_EQ(ferry::BlockOn(channel_->loop(), look(*stub_, KeyOf("y"))), absl::NotFoundError("only x"));
}

TEST_P(StubFormsTest, CallbackGetsAFreshReply) {
  absl::Notification done;
  stub_->Look(KeyOf("x"), {.timeout = absl::Seconds(30)}, [&done](absl::StatusOr<Key_Range> reply) {
    EXPECT_TRUE(reply.ok() && reply->last() == "x");
    done.Notify();
  });
  done.WaitForNotification();
}

TEST_P(StubFormsTest, CallbackGetsAnError) {
  absl::Notification done;
  stub_->Look(KeyOf("y"), {}, [&done](const absl::StatusOr<Key_Range>& reply) {
    EXPECT_EQ(reply.status(), absl::NotFoundError("only x"));
    done.Notify();
  });
  done.WaitForNotification();
}

TEST_P(StubFormsTest, CallbackFillsTheCallersReply) {
  absl::Notification done;
  Key_Range reply;
  stub_->Look(KeyOf("x"), reply, {}, [&done](const absl::Status& status) {
    EXPECT_EQ(status, absl::OkStatus());
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_EQ(reply.last(), "x");
}

TEST(StubInterfaceTest, HandsTheOptionsToTheFormThatAFakeImplements) {
  FakeEcho fake;
  Key_Range reply;
  fake.Look(Key(), {.timeout = absl::Seconds(1)}).IgnoreError();
  EXPECT_EQ(fake.last_timeout, absl::Seconds(1));
  fake.Look(Key(), {.timeout = absl::Seconds(2)}, [](const absl::StatusOr<Key_Range>&) {});
  EXPECT_EQ(fake.last_timeout, absl::Seconds(2));
  fake.Look(Key(), reply, {.timeout = absl::Seconds(3)}, [](const absl::Status&) {});
  EXPECT_EQ(fake.last_timeout, absl::Seconds(3));
}

TEST(StubTest, IsAValue) {
  EXPECT_TRUE(std::is_copy_constructible_v<CodegenTestEchoStub>);
  EXPECT_TRUE(std::is_copy_assignable_v<CodegenTestEchoStub>);
}

}  // namespace
