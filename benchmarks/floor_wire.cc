#include "ferry/benchmarks/floor_wire.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ferry::bench {
namespace {

struct Address {
  sockaddr_storage storage = {};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  sockaddr_in* in() { return reinterpret_cast<sockaddr_in*>(&storage); }
  sockaddr_un* un() { return reinterpret_cast<sockaddr_un*>(&storage); }
};

Address ParseAddress(const std::string& text) {
  Address address;
  if (text.starts_with("unix:")) {
    address.size = sizeof(sockaddr_un);
    address.un()->sun_family = AF_UNIX;
    if (text.size() - 5 >= sizeof(address.un()->sun_path)) {
      errno = ENAMETOOLONG;
      OrDie(-1, text.c_str());
    }
    text.copy(address.un()->sun_path, sizeof(address.un()->sun_path) - 1, 5);
  } else {
    const size_t colon = text.rfind(':');
    address.size = sizeof(sockaddr_in);
    address.in()->sin_family = AF_INET;
    address.in()->sin_port = htons(static_cast<uint16_t>(std::atoi(text.c_str() + colon + 1)));
    OrDie(inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.in()->sin_addr) - 1, text.c_str());
  }
  return address;
}

int NewSocket(Address& address) {
  return OrDie(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
}

}  // namespace

int OrDie(int result, const char* what) {
  if (result < 0) {
    std::perror(what);
    std::exit(1);
  }
  return result;
}

int FloorListen(const std::string& text) {
  Address address = ParseAddress(text);
  const int listener = NewSocket(address);
  OrDie(bind(listener, address.get(), address.size), text.c_str());
  OrDie(listen(listener, SOMAXCONN), text.c_str());
  return listener;
}

int FloorConnect(const std::string& text) {
  Address address = ParseAddress(text);
  const int socket = NewSocket(address);
  OrDie(connect(socket, address.get(), address.size), text.c_str());
  SetNoDelay(socket);
  return socket;
}

std::string FloorAddress(int listener) {
  Address address;
  OrDie(getsockname(listener, address.get(), &address.size), "getsockname");
  if (address.storage.ss_family == AF_UNIX) return std::string("unix:") + address.un()->sun_path;
  return "127.0.0.1:" + std::to_string(ntohs(address.in()->sin_port));
}

void SetNoDelay(int socket) {
  // Unix sockets refuse, and need no such thing.
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void AppendFrame(const google::protobuf::MessageLite& message, std::string& to) {
  const size_t at = to.size();
  to.append(sizeof(uint32_t), '\0');
  message.AppendToString(&to);
  const uint32_t length = static_cast<uint32_t>(to.size() - at - sizeof(uint32_t));
  std::memcpy(&to[at], &length, sizeof(length));
}

ssize_t FrameInput::Fill(int socket, int flags) {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  if (end_ == buffer_.size()) buffer_.resize(2 * end_);
  const ssize_t received = recv(socket, buffer_.data() + end_, buffer_.size() - end_, flags);
  if (received > 0) end_ += static_cast<size_t>(received);
  return received;
}

std::optional<std::string_view> FrameInput::Take() {
  uint32_t length;
  const std::string_view input(buffer_.data() + begin_, end_ - begin_);
  if (input.size() < sizeof(length)) return std::nullopt;
  std::memcpy(&length, input.data(), sizeof(length));
  if (input.size() - sizeof(length) < length) return std::nullopt;
  begin_ += sizeof(length) + length;
  return input.substr(sizeof(length), length);
}

}  // namespace ferry::bench
