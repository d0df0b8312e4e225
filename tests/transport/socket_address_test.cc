#include "ferry/transport/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

SocketAddress Ipv4(const char* ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, ip, &address.sin_addr);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

SocketAddress Ipv6(const char* ip, uint16_t port, uint32_t scope = 0) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_scope_id = scope;
  inet_pton(AF_INET6, ip, &address.sin6_addr);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

SocketAddress UnnamedUnix() {
  const sockaddr address = {.sa_family = AF_UNIX, .sa_data = {}};
  return SocketAddress(&address, sizeof address.sa_family);
}

TEST(SocketAddressTest, SaysWhatItIs) {
  const struct {
    const char* name;
    SocketAddress address;
    std::string text;
  } kCases[] = {
      {"IPv4", Ipv4("127.0.0.1", 80), "127.0.0.1:80"},
      {"IPv6", Ipv6("::1", 65535), "[::1]:65535"},
      {"IPv6 with a scope", Ipv6("fe80::1", 1, 2), "[fe80::1%2]:1"},
      {"a path", SocketAddress::UnixPath("/run/a.sock"), "unix:/run/a.sock"},
      {"an abstract name", SocketAddress::UnixAbstract("a name"), "unix-abstract:a name"},
      {"an abstract name with a NUL", SocketAddress::UnixAbstract(std::string("a\0b", 3)),
       std::string("unix-abstract:a\0b", 17)},
      {"no name", UnnamedUnix(), "unix:"},
      {"the longest path", SocketAddress::UnixPath(std::string(107, 'p')), "unix:" + std::string(107, 'p')},
      {"the longest abstract name", SocketAddress::UnixAbstract(std::string(107, 'n')),
       "unix-abstract:" + std::string(107, 'n')},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(c.address.ToString(), c.text);
  }
}

TEST(SocketAddressTest, HasAPortOnlyWithTcp) {
  EXPECT_EQ(Ipv4("1.2.3.4", 80).port(), 80);
  EXPECT_EQ(Ipv6("::1", 81).port(), 81);
  EXPECT_EQ(SocketAddress::UnixPath("/a").port(), 0);
}

TEST(SocketAddressTest, ChangesItsPort) {
  for (SocketAddress address : {Ipv4("1.2.3.4", 80), Ipv6("::1", 80)}) {
    address.set_port(7000);
    EXPECT_EQ(address.port(), 7000);
  }
}

TEST(SocketAddressTest, HasAPathOnlyWithAFile) {
  EXPECT_EQ(SocketAddress::UnixPath("/run/a").unix_path(), "/run/a");
  EXPECT_EQ(SocketAddress::UnixAbstract("a").unix_path(), "");
  EXPECT_EQ(UnnamedUnix().unix_path(), "");
  EXPECT_EQ(Ipv4("1.2.3.4", 80).unix_path(), "");
}

}  // namespace
}  // namespace ferry::transport
