#include "ferry/rpc/names/hosts_file.h"

#include <string>
#include <string_view>
#include <vector>

#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> Texts(const std::vector<transport::SocketAddress>& addresses) {
  std::vector<std::string> texts;
  texts.reserve(addresses.size());
  for (const transport::SocketAddress& address : addresses) texts.push_back(address.ToString());
  return texts;
}

std::vector<std::string> Find(std::string_view text, std::string_view name) {
  return Texts(FindInHosts(text, name));
}

TEST(HostsFileTest, FindsAHostByItsNameAndByItsOthers) {
  constexpr std::string_view kText = "10.0.0.1 shop.test shop\n10.0.0.2\tbank.test\tbank\n";
  EXPECT_THAT(Find(kText, "shop.test"), ElementsAre("10.0.0.1:0"));
  EXPECT_THAT(Find(kText, "shop"), ElementsAre("10.0.0.1:0"));
  EXPECT_THAT(Find(kText, "bank"), ElementsAre("10.0.0.2:0"));
  EXPECT_THAT(Find(kText, "sho"), IsEmpty());
  EXPECT_THAT(Find(kText, "test"), IsEmpty());
}

TEST(HostsFileTest, FindsEveryAddressInItsOrder) {
  EXPECT_THAT(Find("10.0.0.2 a\n10.0.0.9 b\n::1 a\n10.0.0.1 a\n", "a"),
              ElementsAre("10.0.0.2:0", "[::1]:0", "10.0.0.1:0"));
}

TEST(HostsFileTest, ALineNamesAnAddressOnce) {
  EXPECT_THAT(Find("10.0.0.1 a b a\n", "a"), ElementsAre("10.0.0.1:0"));
}

TEST(HostsFileTest, NamesAreEqualInAnyCaseAndWithAFinalDot) {
  EXPECT_THAT(Find("10.0.0.1 Shop.Test\n", "sHOP.tEST."), ElementsAre("10.0.0.1:0"));
}

TEST(HostsFileTest, SkipsWhatCannotBeRead) {
  EXPECT_THAT(Find("nonsense a\n"
                   "10.0.0.256 a\n"
                   "a\n"
                   "10.0.0.1\n"
                   "\n"
                   "   \t \r\n"
                   "10.0.0.3 a\n",
                   "a"),
              ElementsAre("10.0.0.3:0"));
  EXPECT_THAT(Find("", "a"), IsEmpty());
  EXPECT_THAT(Find("10.0.0.1 a", ""), IsEmpty());
}

TEST(HostsFileTest, AnAddressIsNotAName) { EXPECT_THAT(Find("10.0.0.1 a\n", "10.0.0.1"), IsEmpty()); }

TEST(HostsFileTest, CommentsAndOtherSystemsLineEndsAreNothing) {
  EXPECT_THAT(Find("# 10.0.0.1 a\n  10.0.0.2 b # a\r\n10.0.0.3 c a#b\r\n", "a"), ElementsAre("10.0.0.3:0"));
  EXPECT_THAT(Find("10.0.0.2 a\r\n", "a"), ElementsAre("10.0.0.2:0"));
  EXPECT_THAT(Find("10.0.0.2 a", "a"), ElementsAre("10.0.0.2:0")) << "without an end of the line";
}

TEST(HostsFileTest, KnowsTheMachinesOwnNames) {
  for (const std::string_view name :
       {"localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST."}) {
    EXPECT_TRUE(IsLocalhost(name)) << name;
  }
  for (const std::string_view name : {"", ".", "alocalhost", "localhost.a", "localhost..", "local"}) {
    EXPECT_FALSE(IsLocalhost(name)) << name;
  }
  EXPECT_THAT(Texts(LocalhostAddresses()), ElementsAre("[::1]:0", "127.0.0.1:0"));
}

}  // namespace
}  // namespace ferry
