// The server's side of generated code.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/service.h"
#include "ferry/rpc/task.h"
#include "tests/codegen/protos/everyday.ferry.h"

namespace {

using google::protobuf::Empty;
using google::protobuf::Timestamp;
using tests::codegen::everyday::Key;
using tests::codegen::everyday::Key_Range;
using tests::codegen::everyday::LaterService;
using tests::codegen::everyday::StoreService;
using tests::codegen::everyday::StoreStub;
using tests::codegen::everyday::Value;

const ferry::MethodDescriptor& StoreMethod(int index) {
  return *StoreService().ferry_methods()[index].descriptor;
}

TEST(ServiceTest, ListsItsMethodsInTheirOrder) {
  EXPECT_STREQ(StoreMethod(0).full_name, "tests.codegen.everyday.Store/Get");
  EXPECT_STREQ(StoreMethod(1).full_name, "tests.codegen.everyday.Store/Delete");
  EXPECT_STREQ(StoreMethod(2).full_name, "tests.codegen.everyday.Store/GetChangeTime");
  EXPECT_EQ(StoreService().ferry_methods().size(), 3u);
}

TEST(ServiceTest, CanHaveNoMethods) { EXPECT_TRUE(LaterService().ferry_methods().empty()); }

TEST(ServiceTest, HasTheIdsThatTheRuntimeComputes) {
  EXPECT_EQ(StoreMethod(0).id, ferry::MethodId("tests.codegen.everyday.Store/Get"));
}

TEST(ServiceTest, CarriesTheOptionsOfItsMethods) {
  EXPECT_TRUE(StoreMethod(0).run_inline);
  EXPECT_TRUE(StoreMethod(0).idempotent);
  EXPECT_EQ(StoreMethod(0).timeout_us, 2'500'000);
}

TEST(ServiceTest, CarriesTheRetryPolicyOfItsMethods) {
  EXPECT_EQ(StoreMethod(0).retry, (ferry::MethodRetry{.max_attempts = 4, .hedge_delay_us = 50'000}));
}

TEST(ServiceTest, HasDefaultsForOptionsThatAreNotGiven) {
  EXPECT_FALSE(StoreMethod(1).run_inline);
  EXPECT_FALSE(StoreMethod(1).idempotent);
  EXPECT_EQ(StoreMethod(1).timeout_us, 0);
  EXPECT_EQ(StoreMethod(1).retry, ferry::MethodRetry());
}

TEST(ServiceTest, AcceptsATimeoutOfOneMicrosecond) { EXPECT_EQ(StoreMethod(2).timeout_us, 1); }

// Answers Get at once, Delete through its call object, and GetChangeTime of one name in a coroutine.
class Store final : public StoreService {
 public:
  absl::Status Get(ferry::ServerContext&, const Key& request, Value& reply) override {
    if (request.name().empty()) return absl::NotFoundError("no name");
    reply.set_data("value of " + request.name());
    return absl::OkStatus();
  }
  void StartDelete(ferry::UnaryCall<Key_Range, Empty> call) override {
    const std::string& first = call.request().first();
    std::move(call).Finish(absl::AbortedError("not " + first));
  }
  ferry::Task<absl::Status> CoGetChangeTime(ferry::ServerContext& context, const Key& request,
                                            Timestamp& reply) override {
    // Not a coroutine for the others: they find nothing overridden.
    if (request.name() != "k") return {};
    return ChangeTime(context, request, reply);
  }

 private:
  static ferry::Task<absl::Status> ChangeTime(ferry::ServerContext&, const Key& request, Timestamp& reply) {
    reply.set_seconds(static_cast<int64_t>(request.name().size()));
    co_return absl::OkStatus();
  }
};

class ServedStoreTest : public testing::Test {
 protected:
  ServedStoreTest() {
    server_.Register(store_);
    channel_ = *ferry::CreateInProcessChannel(server_);
  }

  Store store_;
  ferry::Server server_{{.threads = 1}};
  std::unique_ptr<ferry::Channel> channel_;
};

TEST_F(ServedStoreTest, RunsTheHandlerOfTheMethodCalled) {
  Key key;
  key.set_name("k");
  absl::StatusOr<Value> value = StoreStub(*channel_).Get(key);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->data(), "value of k");
}

TEST_F(ServedStoreTest, EndsTheCallWithTheHandlersStatus) {
  EXPECT_EQ(StoreStub(*channel_).Get(Key()).status(), absl::NotFoundError("no name"));
}

TEST_F(ServedStoreTest, PrefersTheCallObjectHandler) {
  Key_Range range;
  range.set_first("a");
  EXPECT_EQ(StoreStub(*channel_).Delete(range).status(), absl::AbortedError("not a"));
}

TEST_F(ServedStoreTest, PrefersTheCoroutine) {
  Key key;
  key.set_name("k");
  const absl::StatusOr<Timestamp> time =
      StoreStub(*channel_).GetChangeTime(key, {.timeout = absl::Seconds(30)});
  ASSERT_TRUE(time.ok()) << time.status();
  EXPECT_EQ(time->seconds(), 1);
}

TEST_F(ServedStoreTest, AnswersUnimplementedForWhatIsNotOverridden) {
  const absl::Status status =
      StoreStub(*channel_).GetChangeTime(Key(), {.timeout = absl::Seconds(30)}).status();
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_NE(status.message().find("tests.codegen.everyday.Store/GetChangeTime"), absl::string_view::npos);
}

}  // namespace
