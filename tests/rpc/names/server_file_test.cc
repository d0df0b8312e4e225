#include "ferry/rpc/names/server_file.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/names/resolver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/told.h"

namespace ferry {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

TEST(ServerFileTest, ReadsEntries) {
  struct Case {
    const char* name;
    std::string text;
    std::vector<std::string> servers;
  };
  const Case kCases[] = {
      {"one", "10.0.0.1:7000\n", {"10.0.0.1:7000"}},
      {"no newline at the end", "10.0.0.1:7000", {"10.0.0.1:7000"}},
      {"several, with empty lines", "\n10.0.0.2:7000\n\n[::1]:7000\n", {"10.0.0.2:7000", "[::1]:7000"}},
      {"line ends of Windows", "10.0.0.1:7000\r\n10.0.0.2:7000\r\n", {"10.0.0.1:7000", "10.0.0.2:7000"}},
      {"comments",
       "# all\n  # of\n10.0.0.1:7000 # them\n10.0.0.2:7000\t#",
       {"10.0.0.1:7000", "10.0.0.2:7000"}},
      {"Unix sockets", "unix:/run/a#b\nunix-abstract:c", {"unix:/run/a#b", "unix-abstract:c"}},
      {"attributes",
       "\t10.0.0.1:7000  weight=3\tlocality=eu/b=1 priority=2  ",
       {"10.0.0.1:7000 weight=3 locality=eu/b=1 priority=2"}},
      {"in any order, and empty",
       "10.0.0.1:7000 priority=0 locality= weight=1000000",
       {"10.0.0.1:7000 weight=1000000"}},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::StatusOr<std::vector<ResolvedServer>> servers = ParseServerFile(c.text, "/f");
    ASSERT_TRUE(servers.ok()) << servers.status();
    EXPECT_THAT(test::DescribeAll(*servers), ElementsAreArray(c.servers));
  }
}

TEST(ServerFileTest, SaysWhichEntryIsMalformedAndHow) {
  struct Case {
    std::string entry;
    std::string problem;
  };
  const Case kCases[] = {
      {"10.0.0.1", "no port"},
      {"10.0.0.1:0", "port is 0"},
      {"10.0.0.1:70000", "port is 70000"},
      {"greeter:7000", "its host is a name, must be an IP address"},
      {"10.0.0.9:7000", "its address has stood before"},
      {"10.0.0.1:7000 weight=0", "weight is \"0\", must be a number from 1 to 1000000"},
      {"10.0.0.1:7000 weight=-1", "weight is \"-1\", must be"},
      {"10.0.0.1:7000 weight=2x", "weight is \"2x\", must be"},
      {"10.0.0.1:7000 weight=", "weight is \"\", must be"},
      {"10.0.0.1:7000 weight", "weight is \"\", must be"},
      {"10.0.0.1:7000 weight=99999999999", "weight is \"99999999999\", must be"},
      {"10.0.0.1:7000 priority=65536", "priority is \"65536\", must be a number from 0 to 65535"},
      {"10.0.0.1:7000 locality", "\"locality\" is none of"},
      {"10.0.0.1:7000 colour=red", "\"colour=red\" is none of"},
      {"10.0.0.1:7000 10.0.0.2:7000", "\"10.0.0.2:7000\" is none of"},
      {"10.0.0.1:7000 weight=1 weight=2", "weight stands twice"},
      {std::string("10.0.0.1\0:7000", 14), "host has a NUL byte"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.entry);
    const auto servers =
        ParseServerFile(absl::StrCat("# first\n10.0.0.9:7000\n  ", c.entry, "\n10.0.0.10:7000\n"), "/f");
    ASSERT_EQ(servers.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(servers.status().message()),
                HasSubstr(absl::StrCat("/f:3: entry \"", c.entry, "\": ")));
    EXPECT_THAT(std::string(servers.status().message()), HasSubstr(c.problem));
  }
}

TEST(ServerFileTest, AFileWithoutServersIsAnError) {
  for (const char* text : {"", "\n\n", "# none\n"}) {
    const auto servers = ParseServerFile(text, "/f");
    EXPECT_EQ(servers.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(servers.status().message(), "/f: there is no server in it");
  }
}

}  // namespace
}  // namespace ferry
