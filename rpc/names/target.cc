#include "ferry/rpc/names/target.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/address.h"

namespace ferry {
namespace {

using transport::Address;
using transport::SocketAddress;

constexpr std::string_view kForms =
    "host:port, [v6]:port, unix:/path, unix-abstract:name, ipv4:A,B, ipv6:A,B, list:///A,B, "
    "dns:///host:port, "
    "dns:///host, file:///path or etcd:///service";
constexpr std::string_view kServicePrefix = "_ferry._tcp.";
constexpr uint16_t kDnsPort = 53;
// RFC 1035, section 2.3.4.
constexpr size_t kMaxName = 253;
constexpr size_t kMaxLabel = 63;

absl::Status Invalid(std::string_view text, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("target \"", std::string(text), "\": ", problem));
}

bool Has(std::string_view text, char c) { return text.find(c) != std::string_view::npos; }

// `scheme://authority/path`: all but the scheme may be empty.
struct Uri {
  std::string_view scheme;
  std::string_view authority;
  std::string_view path;  // without its '/'
};

std::optional<Uri> SplitUri(std::string_view text) {
  const size_t end = text.find("://");
  if (end == std::string_view::npos || text.find('/') < end) return std::nullopt;
  std::string_view rest = text.substr(end + 3);
  const size_t slash = std::min(rest.find('/'), rest.size());
  return Uri{.scheme = text.substr(0, end),
             .authority = rest.substr(0, slash),
             .path = slash < rest.size() ? rest.substr(slash + 1) : std::string_view()};
}

// The address of one server.
absl::StatusOr<SocketAddress> ParseServer(std::string_view text) {
  absl::StatusOr<Address> address = Address::Parse(text);
  if (!address.ok()) return address.status();
  if (address->kind() == Address::Kind::kTcp && address->port() == 0)
    return absl::InvalidArgumentError(absl::StrCat("address \"", std::string(text), "\": port is 0"));
  std::optional<SocketAddress> literal = transport::LiteralAddress(*address);
  if (!literal) {
    return absl::InvalidArgumentError(absl::StrCat(
        "address \"", std::string(text), "\": a list has addresses only, and this is a host's name"));
  }
  return *literal;
}

// `family` is AF_UNSPEC for any.
absl::StatusOr<Target> ParseList(std::string_view text, std::string_view list, int family) {
  Target target{.kind = Target::Kind::kAddresses, .text = std::string(text)};
  for (std::string_view rest = list;;) {
    const size_t comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    if (entry.empty()) return Invalid(text, list.empty() ? "no address" : "an address of the list is empty");
    absl::StatusOr<SocketAddress> address = ParseServer(entry);
    if (!address.ok()) return Invalid(text, address.status().message());
    if (family != AF_UNSPEC && address->family() != family)
      return Invalid(text, absl::StrCat(address->ToString(), " is not of this family"));
    const std::string name = address->ToString();
    if (std::any_of(target.addresses.begin(), target.addresses.end(),
                    [&](const SocketAddress& other) { return other.ToString() == name; }))
      return Invalid(text, absl::StrCat(name, " is in the list twice"));
    target.addresses.push_back(*std::move(address));
    if (comma == std::string_view::npos) return target;
    rest.remove_prefix(comma + 1);
  }
}

// The problem with `host` as a name in DNS; empty if there is none.
std::string NameProblem(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.empty()) return "no host";
  if (host.size() > kMaxName) return absl::StrCat("host is ", host.size(), " bytes, limit is ", kMaxName);
  for (size_t start = 0; start <= host.size();) {
    const size_t end = std::min(host.find('.', start), host.size());
    const std::string label(host.substr(start, end - start));
    if (label.empty()) return absl::StrCat("host \"", std::string(host), "\" has an empty label");
    if (label.size() > kMaxLabel)
      return absl::StrCat("label \"", label, "\" is ", label.size(), " bytes, limit is ", kMaxLabel);
    if (std::any_of(label.begin(), label.end(), [](unsigned char c) {
          return c <= ' ' || c == 0x7f || c == '/' || c == '\\' || c == ',';
        }))
      return absl::StrCat("host \"", std::string(host), "\" has a character that no name has");
    start = end + 1;
  }
  return "";
}

absl::StatusOr<Target> ParseHost(std::string_view text, std::string_view host, std::string_view authority) {
  absl::StatusOr<Address> address = Address::Parse(host);
  if (!address.ok()) {
    return Invalid(text, absl::StrCat(std::string(address.status().message()),
                                      Has(host, ',') ? "; a list is written list:///A,B" : ""));
  }
  if (address->port() == 0) return Invalid(text, "port is 0");
  if (std::optional<SocketAddress> literal = transport::LiteralAddress(*address)) {
    return Target{.kind = Target::Kind::kAddresses, .text = std::string(text), .addresses = {*literal}};
  }
  if (std::string problem = NameProblem(address->name()); !problem.empty()) return Invalid(text, problem);
  if (address->name().starts_with('_'))
    return Invalid(text, "a name that begins with '_' is one of SRV records, which say the port themselves");
  return Target{.kind = Target::Kind::kDns,
                .text = std::string(text),
                .name = address->name(),
                .port = address->port(),
                .authority = std::string(authority)};
}

absl::StatusOr<Target> ParseDns(std::string_view text, const Uri& uri) {
  absl::StatusOr<std::string> server = "";
  if (!uri.authority.empty()) server = ParseDnsServer(uri.authority);
  if (!server.ok()) return Invalid(text, server.status().message());
  if (uri.path.empty()) {
    return Invalid(text, server->empty()
                             ? "no host"
                             : absl::StrCat("no host after the DNS server ", *server,
                                            "; with the system's servers write dns:///host:port"));
  }
  if (Has(uri.path, ':')) return ParseHost(text, uri.path, *server);
  if (std::string problem = NameProblem(uri.path); !problem.empty()) return Invalid(text, problem);
  const std::string_view prefix = uri.path.starts_with('_') ? "" : kServicePrefix;
  Target target{.kind = Target::Kind::kDns,
                .text = std::string(text),
                .name = absl::StrCat(std::string(prefix), std::string(uri.path)),
                .authority = *std::move(server)};
  if (target.name.size() > kMaxName)
    return Invalid(text,
                   absl::StrCat(target.name, " is ", target.name.size(), " bytes, limit is ", kMaxName));
  return target;
}

absl::StatusOr<Target> ParseFile(std::string_view text, const Uri& uri) {
  if (!uri.authority.empty())
    return Invalid(text, absl::StrCat("\"", std::string(uri.authority),
                                      "\" would be another machine's; write file:///path"));
  if (uri.path.empty() || uri.path.ends_with('/')) return Invalid(text, "no file in the path");
  if (uri.path.find('\0') != std::string_view::npos) return Invalid(text, "path has a NUL byte");
  return Target{.kind = Target::Kind::kFile,
                .text = std::string(text),
                .name = absl::StrCat("/", std::string(uri.path))};
}

absl::StatusOr<Target> ParseEtcd(std::string_view text, const Uri& uri) {
  if (uri.path.empty()) return Invalid(text, "no service; write etcd:///service");
  return Target{.kind = Target::Kind::kEtcd,
                .text = std::string(text),
                .name = std::string(uri.path),
                .authority = std::string(uri.authority)};
}

}  // namespace

absl::StatusOr<Target> ParseTarget(std::string_view text) {
  if (text.empty()) return Invalid(text, absl::StrCat("empty; write ", std::string(kForms)));
  if (text.starts_with("unix:") || text.starts_with("unix-abstract:")) {
    absl::StatusOr<SocketAddress> address = ParseServer(text);
    if (!address.ok()) return Invalid(text, address.status().message());
    return Target{
        .kind = Target::Kind::kAddresses, .text = std::string(text), .addresses = {*std::move(address)}};
  }
  if (text.starts_with("ipv4:")) return ParseList(text, text.substr(5), AF_INET);
  if (text.starts_with("ipv6:")) return ParseList(text, text.substr(5), AF_INET6);
  const std::optional<Uri> uri = SplitUri(text);
  if (!uri) {
    for (const std::string_view scheme : {"dns", "file", "etcd", "list"}) {
      if (!text.starts_with(std::string(scheme) + ":")) continue;
      // Digits would be the port of a host of this name.
      if (text.find_first_not_of("0123456789", scheme.size() + 1) != std::string_view::npos)
        return Invalid(text,
                       absl::StrCat("no \"//\" after the scheme; write ", std::string(scheme), ":///..."));
    }
    return ParseHost(text, text, "");
  }
  if (uri->scheme == "dns") return ParseDns(text, *uri);
  if (uri->scheme == "file") return ParseFile(text, *uri);
  if (uri->scheme == "etcd") return ParseEtcd(text, *uri);
  if (uri->scheme == "list") {
    if (!uri->authority.empty()) return Invalid(text, "the list begins after three slashes: list:///A,B");
    return ParseList(text, uri->path, AF_UNSPEC);
  }
  return Invalid(text, absl::StrCat("scheme \"", std::string(uri->scheme), "\" is unknown; write ",
                                    std::string(kForms)));
}

absl::StatusOr<std::string> ParseDnsServer(std::string_view text) {
  const auto invalid = [text](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat("DNS server \"", std::string(text), "\": ", problem));
  };
  const bool has_port = text.starts_with('[') ? !text.ends_with(']') : Has(text, ':');
  absl::StatusOr<Address> address =
      Address::Parse(has_port ? std::string(text) : absl::StrCat(std::string(text), ":", kDnsPort));
  if (!address.ok()) return invalid(address.status().message());
  if (address->kind() != Address::Kind::kTcp || !transport::LiteralAddress(*address))
    return invalid("it is not an IP address");
  if (address->port() == 0) return invalid("port is 0");
  return address->ToString();
}

}  // namespace ferry
