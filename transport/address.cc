#include "ferry/transport/address.h"

#include <netdb.h>

#include <charconv>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ferry::transport {
namespace {

constexpr std::string_view kUnixPathPrefix = "unix:";
constexpr std::string_view kUnixAbstractPrefix = "unix-abstract:";
constexpr int kMaxPort = 65535;
// RFC 1035, section 2.3.4, in its text form.
constexpr size_t kMaxHost = 253;

absl::Status Invalid(std::string_view text, std::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("address \"", std::string(text), "\": ", std::string(problem)));
}

// Fills `addresses` with what getaddrinfo(3) says, and returns its error. REQUIRES: `address` is kTcp.
int LookUp(const Address& address, int flags, std::vector<SocketAddress>& addresses) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.name().c_str(), absl::StrCat(address.port()).c_str(), &hints, &found);
  if (error != 0) return error;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, &freeaddrinfo);
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next)
    addresses.emplace_back(a->ai_addr, a->ai_addrlen);
  return 0;
}

}  // namespace

absl::StatusOr<Address> Address::Parse(std::string_view text) {
  if (text.starts_with(kUnixAbstractPrefix)) {
    return ParseUnix(Kind::kUnixAbstract, text, text.substr(kUnixAbstractPrefix.size()));
  }
  if (text.starts_with(kUnixPathPrefix)) {
    return ParseUnix(Kind::kUnixPath, text, text.substr(kUnixPathPrefix.size()));
  }
  return ParseTcp(text);
}

absl::StatusOr<Address> Address::ParseTcp(std::string_view text) {
  const size_t colon = text.rfind(':');
  const bool bracketed = text.starts_with('[');
  if (bracketed && text.find(']') == std::string_view::npos) return Invalid(text, "'[' has no ']'");
  if (colon == std::string_view::npos || (bracketed && colon < text.find(']'))) {
    return Invalid(text, "no port; write host:port, [v6]:port, unix:/path or unix-abstract:name");
  }
  std::string_view host = text.substr(0, colon);
  if (bracketed) {
    if (!host.ends_with(']')) return Invalid(text, "only a port may follow ']'");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return Invalid(text, "an IPv6 address stands in brackets, as in [::1]:80");
  }
  if (host.empty()) return Invalid(text, "no host; 0.0.0.0 or [::] is every address of this machine");
  if (bracketed != (host.find(':') != std::string_view::npos) ||
      host.find_first_of("[]") != std::string_view::npos) {
    return Invalid(text, "brackets are for an IPv6 address, as in [::1]:80");
  }
  if (host.size() > kMaxHost) {
    return Invalid(text, absl::StrCat("host is ", host.size(), " bytes, limit is ", kMaxHost));
  }
  if (host.find('\0') != std::string_view::npos) return Invalid(text, "host has a NUL byte");
  const std::string_view digits = text.substr(colon + 1);
  int port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || end != digits.data() + digits.size() || digits.front() == '-') {
    return Invalid(text, absl::StrCat("port \"", std::string(digits), "\" is not a number"));
  }
  if (error != std::errc() || port > kMaxPort) {
    return Invalid(text, absl::StrCat("port is ", std::string(digits), ", limit is ", kMaxPort));
  }
  return Address(Kind::kTcp, host, static_cast<uint16_t>(port));
}

absl::StatusOr<Address> Address::ParseUnix(Kind kind, std::string_view text, std::string_view name) {
  const bool path = kind == Kind::kUnixPath;
  const std::string_view what = path ? "path" : "name";
  const size_t limit = path ? SocketAddress::kMaxUnixPath : SocketAddress::kMaxUnixAbstract;
  if (name.empty()) return Invalid(text, absl::StrCat(std::string(what), " is empty"));
  if (name.size() > limit) {
    return Invalid(text, absl::StrCat(std::string(what), " is ", name.size(), " bytes, limit is ", limit));
  }
  if (path && name.find('\0') != std::string_view::npos) return Invalid(text, "path has a NUL byte");
  return Address(kind, name, 0);
}

std::string Address::ToString() const {
  switch (kind_) {
    case Kind::kUnixPath:
      return absl::StrCat("unix:", name_);
    case Kind::kUnixAbstract:
      return absl::StrCat("unix-abstract:", name_);
    case Kind::kTcp:
      break;
  }
  const bool v6 = name_.find(':') != std::string::npos;
  return absl::StrCat(v6 ? "[" : "", name_, v6 ? "]:" : ":", port_);
}

std::optional<SocketAddress> LiteralAddress(const Address& address) {
  if (address.kind() == Address::Kind::kUnixPath) return SocketAddress::UnixPath(address.name());
  if (address.kind() == Address::Kind::kUnixAbstract) return SocketAddress::UnixAbstract(address.name());
  std::vector<SocketAddress> addresses;
  if (LookUp(address, AI_NUMERICHOST, addresses) != 0) return std::nullopt;
  return addresses.front();
}

absl::StatusOr<std::vector<SocketAddress>> Resolve(const Address& address) {
  if (address.kind() != Address::Kind::kTcp) return std::vector{*LiteralAddress(address)};
  std::vector<SocketAddress> addresses;
  if (const int error = LookUp(address, 0, addresses); error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot find host \"", address.name(), "\": ", gai_strerror(error)));
  }
  return addresses;
}

}  // namespace ferry::transport
