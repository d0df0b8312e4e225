#include "ferry/rpc/method_table.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/service.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/echo_service.h"

namespace ferry {
namespace {

using testing::HasSubstr;

// A Service of one method that nobody calls.
class OneMethod final : public Service {
 public:
  explicit OneMethod(const MethodDescriptor& descriptor)
      : method_{.descriptor = &descriptor, .new_call = nullptr, .start = nullptr} {}
  absl::Span<const ServerMethod> ferry_methods() const override { return {&method_, 1}; }

 private:
  const ServerMethod method_;
};

TEST(MethodTableTest, FindsMethodsByTheirIds) {
  MethodTable table({});
  test::ScriptedEcho echo;
  ASSERT_TRUE(table.Add(echo).ok());
  ServedMethod* const found = table.Find(test::kFailId);
  ASSERT_NE(found, nullptr);
  EXPECT_STREQ(found->name(), "ferry.test.Echo/Fail");
  EXPECT_EQ(&found->service, &echo);
  EXPECT_EQ(table.Find(1), nullptr);
}

TEST(MethodTableTest, NamesBothMethodsThatHaveOneId) {
  const MethodDescriptor first{.full_name = "a.B/C", .id = 0x123};
  const MethodDescriptor second{.full_name = "d.E/F", .id = 0x123};
  OneMethod one(first);
  OneMethod other(second);
  MethodTable table({});
  ASSERT_TRUE(table.Add(one).ok());
  const absl::Status status = table.Add(other);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("d.E/F"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.B/C"));
  EXPECT_STREQ(table.Find(0x123)->name(), "a.B/C");
}

TEST(MethodTableTest, RefusesAServiceThatIsAddedTwice) {
  test::ScriptedEcho echo;
  MethodTable table({});
  ASSERT_TRUE(table.Add(echo).ok());
  EXPECT_EQ(table.Add(echo).code(), absl::StatusCode::kAlreadyExists);
}

TEST(MethodTableTest, SaysWhereMethodsRun) {
  const MethodDescriptor marked{.full_name = "a.B/C", .id = MethodId("a.B/C"), .run_inline = true};
  OneMethod service(marked);
  MethodTable table({});
  ASSERT_TRUE(table.Add(service).ok());
  EXPECT_TRUE(table.Find(marked.id)->run_inline);
  ASSERT_TRUE(table.SetInline("a.B/C", false).ok());
  EXPECT_FALSE(table.Find(marked.id)->run_inline);
  EXPECT_EQ(table.SetInline("a.B/D", true),
            absl::NotFoundError("no registered service has the method a.B/D"));
}

TEST(MethodTableTest, HasARecyclerForEachLoop) {
  test::ScriptedEcho echo;
  MethodTable table({});
  ASSERT_TRUE(table.Add(echo).ok());
  table.PrepareFor(3);
  EXPECT_THAT(table.Find(test::kEchoId)->recyclers, testing::SizeIs(3));
}

}  // namespace
}  // namespace ferry
