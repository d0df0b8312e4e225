#include "ferry/transport/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"

namespace ferry::transport {
namespace {

constexpr size_t kUnixNameOffset = offsetof(sockaddr_un, sun_path);

template <typename T>
const T& As(const sockaddr* address) {
  return *reinterpret_cast<const T*>(address);
}

std::string Ipv6Text(const sockaddr_in6& address) {
  char text[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text);
  const std::string scope = address.sin6_scope_id == 0 ? "" : absl::StrCat("%", address.sin6_scope_id);
  return absl::StrCat("[", text, scope, "]:", ntohs(address.sin6_port));
}

std::string Ipv4Text(const sockaddr_in& address) {
  char text[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  return absl::StrCat(text, ":", ntohs(address.sin_port));
}

}  // namespace

SocketAddress::SocketAddress(const sockaddr* data, socklen_t size)
    : size_(std::min<socklen_t>(size, sizeof storage_)) {
  std::memcpy(&storage_, data, size_);
}

SocketAddress SocketAddress::UnixPath(std::string_view path) {
  FERRY_CHECK(!path.empty() && path.size() <= kMaxUnixPath, "a path does not fit into sockaddr_un");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), kUnixNameOffset + path.size() + 1);
}

SocketAddress SocketAddress::UnixAbstract(std::string_view name) {
  FERRY_CHECK(!name.empty() && name.size() <= kMaxUnixAbstract, "a name does not fit into sockaddr_un");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), kUnixNameOffset + 1 + name.size());
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(As<sockaddr_in>(data()).sin_port);
  if (family() == AF_INET6) return ntohs(As<sockaddr_in6>(data()).sin6_port);
  return 0;
}

void SocketAddress::set_port(uint16_t port) {
  FERRY_CHECK(is_tcp(), "only TCP has ports");
  if (family() == AF_INET) {
    reinterpret_cast<sockaddr_in*>(&storage_)->sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6*>(&storage_)->sin6_port = htons(port);
  }
}

std::string SocketAddress::unix_path() const {
  if (!is_unix() || size_ <= kUnixNameOffset) return "";
  const char* name = As<sockaddr_un>(data()).sun_path;
  return std::string(name, strnlen(name, size_ - kUnixNameOffset));
}

std::string SocketAddress::ToString() const {
  if (family() == AF_INET) return Ipv4Text(As<sockaddr_in>(data()));
  if (family() == AF_INET6) return Ipv6Text(As<sockaddr_in6>(data()));
  if (!is_unix()) return "unknown";
  const char* name = As<sockaddr_un>(data()).sun_path;
  if (size_ > kUnixNameOffset + 1 && name[0] == '\0') {
    return absl::StrCat("unix-abstract:", std::string(name + 1, size_ - kUnixNameOffset - 1));
  }
  return absl::StrCat("unix:", unix_path());
}

}  // namespace ferry::transport
