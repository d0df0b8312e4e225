// Names that a real DNS server knows.
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/dns_resolver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/dns_fixture.h"
#include "tests/testing/dns_server.h"

namespace ferry {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class DnsServerTest : public test::DnsTest {
 protected:
  test::DnsServer server_{{}};
};

TEST_F(DnsServerTest, FindsTheAddressesOfAHost) {
  server_.Serve({"host-record=four.test,10.0.0.1,60", "host-record=four.test,10.0.0.2,60",
                 "host-record=six.test,2001:db8::1,60", "host-record=both.test,10.0.0.1,2001:db8::1,60",
                 "cname=alias.test,four.test,60"});
  struct Case {
    const char* name;
    std::vector<std::string> servers;
  };
  const Case kCases[] = {
      {"four.test", {"10.0.0.1:80", "10.0.0.2:80"}},      {"six.test", {"[2001:db8::1]:80"}},
      {"both.test", {"[2001:db8::1]:80", "10.0.0.1:80"}}, {"BOTH.test.", {"[2001:db8::1]:80", "10.0.0.1:80"}},
      {"alias.test", {"10.0.0.1:80", "10.0.0.2:80"}},
  };
  int count = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    test::RunIn(*loop_, [this] { resolver_.reset(); });
    Start({.name = c.name, .port = 80}, server_.address());
    AwaitTold(++count);
    EXPECT_THAT(told_.servers(), testing::UnorderedElementsAreArray(c.servers));
  }
}

TEST_F(DnsServerTest, FindsTheServersInSrvRecords) {
  server_.Serve({"local-ttl=60", "host-record=a.test,10.0.0.1,2001:db8::1", "host-record=b.test,10.0.0.2",
                 "srv-host=_ferry._tcp.shop.test,b.test,7001,1,0",
                 "srv-host=_ferry._tcp.shop.test,a.test,7000,0,10",
                 "srv-host=_ferry._tcp.shop.test,a.test,7002,0,20"});
  Start({.name = "_ferry._tcp.shop.test"}, server_.address());
  AwaitTold(1);
  EXPECT_THAT(told_.servers(),
              UnorderedElementsAre("a.test:7000 weight=10 at [2001:db8::1]:7000,10.0.0.1:7000",
                                   "a.test:7002 weight=20 at [2001:db8::1]:7002,10.0.0.1:7002",
                                   "b.test:7001 priority=1 at 10.0.0.2:7001"));
}

TEST_F(DnsServerTest, LeavesOutTargetsWithoutAnAddressWhileOthersHaveOne) {
  server_.Serve({"local-ttl=60", "host-record=a.test,10.0.0.1",
                 "srv-host=_ferry._tcp.shop.test,a.test,7000,0,10",
                 "srv-host=_ferry._tcp.shop.test,gone.test,7000,0,10"});
  Start({.name = "_ferry._tcp.shop.test"}, server_.address());
  AwaitTold(1);
  EXPECT_THAT(told_.servers(), ElementsAre("a.test:7000 weight=10 at 10.0.0.1:7000"));
}

TEST_F(DnsServerTest, SaysWhichTargetHasNoAddress) {
  server_.Serve({"srv-host=_ferry._tcp.shop.test,gone.test,7000,0,10"});
  Start({.name = "_ferry._tcp.shop.test"}, server_.address());
  AwaitTold(1);
  EXPECT_EQ(
      told_.error(),
      "cannot find target \"gone.test\" of \"_ferry._tcp.shop.test\": Domain name not found (asked of " +
          server_.address() + ")");
}

TEST_F(DnsServerTest, AnswersOfManyServersComeByTcp) {
  std::vector<std::string> records;
  std::vector<std::string> servers;
  for (int i = 1; i <= 200; ++i) {
    const std::string number = std::to_string(i);
    records.push_back("host-record=many.test,10.0.0." + number + ",60");
    servers.push_back("10.0.0." + number + ":80");
  }
  server_.Serve(records);
  Start({.name = "many.test", .port = 80}, server_.address());
  AwaitTold(1);
  EXPECT_THAT(told_.servers(), testing::UnorderedElementsAreArray(servers));
}

TEST_F(DnsServerTest, LooksAgainWhenTheTtlEnds) {
  server_.Serve({"host-record=a.test,10.0.0.1,10"});
  Start({.name = "a.test", .port = 80}, server_.address());
  AwaitTold(1);
  server_.Serve({"host-record=a.test,10.0.0.2,10"});
  Advance(absl::Seconds(10));
  AwaitTold(2);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:80"));
}

TEST_F(DnsServerTest, FollowsSrvRecordsThatChange) {
  server_.Serve(
      {"local-ttl=30", "host-record=a.test,10.0.0.1", "srv-host=_ferry._tcp.shop.test,a.test,1,0,1"});
  Start({.name = "_ferry._tcp.shop.test"}, server_.address());
  AwaitTold(1);
  server_.Serve(
      {"local-ttl=30", "host-record=a.test,10.0.0.1", "srv-host=_ferry._tcp.shop.test,a.test,2,0,5"});
  Advance(absl::Seconds(30));
  AwaitTold(2);
  EXPECT_THAT(told_.servers(), ElementsAre("a.test:2 weight=5 at 10.0.0.1:2"));
}

TEST_F(DnsServerTest, ANameThatIsNotThereIsAnErrorUntilItIs) {
  Start({.name = "a.test", .port = 80}, server_.address());
  AwaitTold(1);
  EXPECT_EQ(told_.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(told_.error(),
            "cannot find host \"a.test\": Domain name not found (asked of " + server_.address() + ")");
  server_.Serve({"host-record=a.test,10.0.0.1,10"});
  Advance(Options().negative_ttl);
  AwaitTold(2);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:80"));
}

TEST_F(DnsServerTest, AHostWithoutAddressesIsAnError) {
  server_.Serve({"txt-record=text.test,hello"});
  Start({.name = "text.test", .port = 80}, server_.address());
  AwaitTold(1);
  EXPECT_THAT(told_.error(), AllOf(HasSubstr("cannot find host \"text.test\": "), HasSubstr("no data")));
}

}  // namespace
}  // namespace ferry
