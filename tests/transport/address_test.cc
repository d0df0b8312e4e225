#include "ferry/transport/address.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(AddressTest, ReadsEveryForm) {
  struct Case {
    const char* name;
    std::string text;
    Address::Kind kind;
    std::string host_path_or_name;
    uint16_t port;
  };
  const Case kCases[] = {
      {"a name", "localhost:80", Address::Kind::kTcp, "localhost", 80},
      {"IPv4", "127.0.0.1:65535", Address::Kind::kTcp, "127.0.0.1", 65535},
      {"any free port", "0.0.0.0:0", Address::Kind::kTcp, "0.0.0.0", 0},
      {"IPv6", "[::1]:80", Address::Kind::kTcp, "::1", 80},
      {"IPv6 with a scope", "[fe80::1%eth0]:80", Address::Kind::kTcp, "fe80::1%eth0", 80},
      {"the longest host", std::string(253, 'h') + ":1", Address::Kind::kTcp, std::string(253, 'h'), 1},
      {"an absolute path", "unix:/run/ferry.sock", Address::Kind::kUnixPath, "/run/ferry.sock", 0},
      {"a relative path", "unix:ferry.sock", Address::Kind::kUnixPath, "ferry.sock", 0},
      {"a path with a colon", "unix:/run/a:80", Address::Kind::kUnixPath, "/run/a:80", 0},
      {"the longest path", "unix:" + std::string(107, 'p'), Address::Kind::kUnixPath, std::string(107, 'p'),
       0},
      {"an abstract name", "unix-abstract:ferry", Address::Kind::kUnixAbstract, "ferry", 0},
      {"an abstract name with a NUL", std::string("unix-abstract:a\0b", 17), Address::Kind::kUnixAbstract,
       std::string("a\0b", 3), 0},
      {"the longest abstract name", "unix-abstract:" + std::string(107, 'n'), Address::Kind::kUnixAbstract,
       std::string(107, 'n'), 0},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::StatusOr<Address> address = Address::Parse(c.text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->kind(), c.kind);
    EXPECT_EQ(address->name(), c.host_path_or_name);
    EXPECT_EQ(address->port(), c.port);
    EXPECT_EQ(address->ToString(), c.text);
  }
}

TEST(AddressTest, SaysWhatIsWrongWithAText) {
  struct Case {
    const char* name;
    std::string text;
    const char* problem;
  };
  const Case kCases[] = {
      {"nothing", "", "no port"},
      {"no port", "localhost", "no port; write host:port"},
      {"no port behind brackets", "[::1]", "no port"},
      {"an empty port", "localhost:", "port \"\" is not a number"},
      {"a port that is a name", "localhost:http", "port \"http\" is not a number"},
      {"a port with more behind it", "localhost:80x", "port \"80x\" is not a number"},
      {"a negative port", "localhost:-1", "port \"-1\" is not a number"},
      {"a port with a plus", "localhost:+1", "port \"+1\" is not a number"},
      {"a port over the limit", "localhost:65536", "port is 65536, limit is 65535"},
      {"a port over any integer", "localhost:99999999999999999999",
       "port is 99999999999999999999, limit is 65535"},
      {"no host", ":80", "no host; 0.0.0.0 or [::]"},
      {"empty brackets", "[]:80", "no host"},
      {"IPv6 without brackets", "::1:80", "an IPv6 address stands in brackets"},
      {"an open bracket", "[::1:80", "'[' has no ']'"},
      {"something behind the bracket", "[::1]x:80", "only a port may follow ']'"},
      {"a bracket in brackets", "[[::1]:80", "brackets are for an IPv6 address"},
      {"a name in brackets", "[localhost]:80", "brackets are for an IPv6 address"},
      {"a bracket in a name", "host]:80", "brackets are for an IPv6 address"},
      {"a host over the limit", std::string(254, 'h') + ":1", "host is 254 bytes, limit is 253"},
      {"a host with a NUL", std::string("a\0b:80", 6), "host has a NUL byte"},
      {"an empty path", "unix:", "path is empty"},
      {"a path over the limit", "unix:" + std::string(108, 'p'), "path is 108 bytes, limit is 107"},
      {"a path with a NUL", std::string("unix:/a\0b", 9), "path has a NUL byte"},
      {"an empty abstract name", "unix-abstract:", "name is empty"},
      {"an abstract name over the limit", "unix-abstract:" + std::string(108, 'n'),
       "name is 108 bytes, limit is 107"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::StatusOr<Address> address = Address::Parse(c.text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(address.status().message()),
                AllOf(HasSubstr(absl::StrCat("address \"", c.text, "\"")), HasSubstr(c.problem)));
  }
}

TEST(ResolveTest, NeedsNoResolverForNumbersAndUnixSockets) {
  for (const char* text :
       {"127.0.0.1:80", "[::1]:443", "[::]:0", "unix:/run/ferry.sock", "unix-abstract:ferry"}) {
    SCOPED_TRACE(text);
    const absl::StatusOr<std::vector<SocketAddress>> found = Resolve(*Address::Parse(text));
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->size(), 1u);
    EXPECT_EQ(found->front().ToString(), text);
  }
}

TEST(ResolveTest, SaysWhichHostCannotBeFound) {
  const absl::StatusOr<std::vector<SocketAddress>> found =
      Resolve(*Address::Parse("no-such-host.invalid:80"));
  EXPECT_EQ(found.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(found.status().message()),
              HasSubstr("cannot find host \"no-such-host.invalid\": "));
}

TEST(LiteralAddressTest, IsWhatNeedsNoLookingUp) {
  for (const char* text : {"127.0.0.1:80", "[::1]:80", "unix:/a", "unix-abstract:a"}) {
    SCOPED_TRACE(text);
    const std::optional<SocketAddress> literal = LiteralAddress(*Address::Parse(text));
    ASSERT_TRUE(literal.has_value());
    EXPECT_EQ(literal->ToString(), text);
  }
  for (const char* text : {"localhost:80", "1.2.3.4.5:80", "[::1::2]:80"}) {
    SCOPED_TRACE(text);
    EXPECT_FALSE(LiteralAddress(*Address::Parse(text)).has_value());
  }
}

}  // namespace
}  // namespace ferry::transport
