#include "ferry/rpc/names/target.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry {
namespace {

using testing::HasSubstr;

// "addresses A,B", "dns NAME:PORT@SERVER", "file PATH" or "etcd SERVICE@AUTHORITY".
std::string Describe(const Target& target) {
  const std::string at = target.authority.empty() ? "" : absl::StrCat("@", target.authority);
  switch (target.kind) {
    case Target::Kind::kAddresses:
      return absl::StrCat(
          "addresses ",
          absl::StrJoin(target.addresses, ",", [](std::string* out, const transport::SocketAddress& address) {
            absl::StrAppend(out, address.ToString());
          }));
    case Target::Kind::kDns:
      return absl::StrCat("dns ", target.name, target.port ? absl::StrCat(":", *target.port) : "", at);
    case Target::Kind::kFile:
      return absl::StrCat("file ", target.name);
    case Target::Kind::kEtcd:
      return absl::StrCat("etcd ", target.name, at);
  }
  return "";
}

TEST(TargetTest, ReadsEveryForm) {
  struct Case {
    std::string text;
    std::string parsed;
  };
  const Case kCases[] = {
      {"127.0.0.1:7000", "addresses 127.0.0.1:7000"},
      {"[::1]:7000", "addresses [::1]:7000"},
      {"unix:/run/a,b", "addresses unix:/run/a,b"},
      {"unix:relative", "addresses unix:relative"},
      {"unix:///run/a", "addresses unix:///run/a"},
      {"unix-abstract:name", "addresses unix-abstract:name"},
      {"ipv4:10.0.0.1:7000", "addresses 10.0.0.1:7000"},
      {"ipv4:10.0.0.1:7000,10.0.0.1:7001", "addresses 10.0.0.1:7000,10.0.0.1:7001"},
      {"ipv6:[::1]:7000,[::2]:7000", "addresses [::1]:7000,[::2]:7000"},
      {"list:///10.0.0.1:7000,[::1]:7000,unix:/run/a", "addresses 10.0.0.1:7000,[::1]:7000,unix:/run/a"},
      {"greeter:7000", "dns greeter:7000"},
      {"localhost:7000", "dns localhost:7000"},
      {"dns:53", "dns dns:53"},
      {"etcd:2379", "dns etcd:2379"},
      {"dns:///greeter:7000", "dns greeter:7000"},
      {"dns:///greeter.example.com.:7000", "dns greeter.example.com.:7000"},
      {"dns:///a_b:7000", "dns a_b:7000"},
      {"dns:///127.0.0.1:7000", "addresses 127.0.0.1:7000"},
      {"dns:///[::1]:7000", "addresses [::1]:7000"},
      {"dns:///greeter", "dns _ferry._tcp.greeter"},
      {"dns:///_grpc._tcp.greeter", "dns _grpc._tcp.greeter"},
      {"dns://10.0.0.53/greeter:7000", "dns greeter:7000@10.0.0.53:53"},
      {"dns://10.0.0.53:5353/greeter", "dns _ferry._tcp.greeter@10.0.0.53:5353"},
      {"dns://[::1]/greeter:7000", "dns greeter:7000@[::1]:53"},
      {"dns://[::1]:5353/greeter:7000", "dns greeter:7000@[::1]:5353"},
      {"file:///etc/servers", "file /etc/servers"},
      {"file:///a:b", "file /a:b"},
      {"etcd:///shop/cart", "etcd shop/cart"},
      {"etcd://10.0.0.1:2379/cart", "etcd cart@10.0.0.1:2379"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    const absl::StatusOr<Target> target = ParseTarget(c.text);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(Describe(*target), c.parsed);
    EXPECT_EQ(target->text, c.text);
  }
}

TEST(TargetTest, SaysWhatIsWrong) {
  const std::string long_label(64, 'a');
  std::string long_name;
  for (int i = 0; i < 50; ++i) long_name += "abcd.";
  long_name += "abcd";  // fits by itself, but not with "_ferry._tcp."
  struct Case {
    std::string text;
    std::string problem;
  };
  const Case kCases[] = {
      {"", "empty; write host:port"},
      {"greeter", "no port"},
      {"greeter:", "port \"\" is not a number"},
      {"greeter:70000", "port is 70000, limit is 65535"},
      {"greeter:0", "port is 0"},
      {"127.0.0.1:0", "port is 0"},
      {"::1:80", "an IPv6 address stands in brackets"},
      {"a..b:80", "empty label"},
      {"a b:80", "has a character that no name has"},
      {long_label + ":80", "is 64 bytes, limit is 63"},
      {"127.0.0.1:80,127.0.0.1:81", "a list is written list:///A,B"},
      {"http://greeter:80", "scheme \"http\" is unknown; write host:port"},
      {"dns:greeter:80", "no \"//\" after the scheme; write dns:///"},
      {"file:/etc/servers", "no \"//\" after the scheme; write file:///"},
      {"://greeter:80", "scheme \"\" is unknown"},
      {"unix:", "path is empty"},
      {"ipv4:", "no address"},
      {"ipv4:10.0.0.1:80,", "an address of the list is empty"},
      {"ipv4:10.0.0.1:80,,10.0.0.2:80", "an address of the list is empty"},
      {"ipv4:[::1]:80", "[::1]:80 is not of this family"},
      {"ipv6:127.0.0.1:80", "127.0.0.1:80 is not of this family"},
      {"ipv4:10.0.0.1:80,10.0.0.1:80", "10.0.0.1:80 is in the list twice"},
      {"ipv4:greeter:80", "this is a host's name"},
      {"list:///10.0.0.1:0", "port is 0"},
      {"list://10.0.0.1:80", "after three slashes"},
      {"list:///", "no address"},
      {"dns:///", "no host"},
      {"dns://greeter:80", "DNS server \"greeter:80\": it is not an IP address"},
      {"dns://10.0.0.53", "no host after the DNS server 10.0.0.53:53"},
      {"dns://10.0.0.53:0/greeter", "DNS server \"10.0.0.53:0\": port is 0"},
      {"dns:///_grpc._tcp.greeter:80", "SRV records, which say the port themselves"},
      {"dns:///a/b:80", "has a character that no name has"},
      {"dns:///a..b", "empty label"},
      {"dns:///.", "no host"},
      {"dns:///" + long_name, "limit is 253"},
      {"file://host/path", "another machine's"},
      {"file:///", "no file in the path"},
      {"file:///etc/", "no file in the path"},
      {"etcd:///", "no service"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    const absl::StatusOr<Target> target = ParseTarget(c.text);
    ASSERT_EQ(target.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(target.status().message()), HasSubstr(absl::StrCat("target \"", c.text, "\": ")));
    EXPECT_THAT(std::string(target.status().message()), HasSubstr(c.problem));
  }
}

}  // namespace
}  // namespace ferry
