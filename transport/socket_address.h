// Where a socket is bound or connected to.
#ifndef FERRY_TRANSPORT_SOCKET_ADDRESS_H_
#define FERRY_TRANSPORT_SOCKET_ADDRESS_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace ferry::transport {

// A SocketAddress is an address as the kernel takes it: an IPv4 or IPv6 address and port, or the name of a
// Unix socket.
//
// A value.
class SocketAddress {
 public:
  // What fits into sockaddr_un: a path needs one more byte for its end, an abstract name one more for its
  // mark.
  static constexpr size_t kMaxUnixPath = 107;
  static constexpr size_t kMaxUnixAbstract = 107;

  // Nothing in particular: family AF_UNSPEC, to be filled by the kernel through mutable_data.
  SocketAddress() = default;
  SocketAddress(const sockaddr* data, socklen_t size);

  // REQUIRES: the name is not empty, no longer than the limit above, and a path has no NUL.
  static SocketAddress UnixPath(std::string_view path);
  static SocketAddress UnixAbstract(std::string_view name);

  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

  // For the kernel to write to, `*mutable_size()` bytes at most.
  sockaddr* mutable_data() { return reinterpret_cast<sockaddr*>(&storage_); }
  socklen_t* mutable_size() { return &size_; }

  int family() const { return storage_.ss_family; }
  bool is_unix() const { return family() == AF_UNIX; }
  bool is_tcp() const { return family() == AF_INET || family() == AF_INET6; }

  // 0 unless is_tcp().
  uint16_t port() const;
  // REQUIRES: is_tcp().
  void set_port(uint16_t port);

  // The path of a Unix socket; empty for any other, for an abstract and for an unnamed one.
  std::string unix_path() const;

  // "127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80", "unix:/path", "unix-abstract:name", or "unix:" without a
  // name.
  std::string ToString() const;

  // Whether they are the same for the kernel.
  friend bool operator==(const SocketAddress& a, const SocketAddress& b) {
    return a.size_ == b.size_ && std::memcmp(&a.storage_, &b.storage_, a.size_) == 0;
  }

 private:
  sockaddr_storage storage_ = {};
  socklen_t size_ = sizeof(sockaddr_storage);
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_SOCKET_ADDRESS_H_
