#include "ferry/rpc/names/hosts_file.h"

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/address.h"

namespace ferry {
namespace {

absl::string_view WithoutFinalDot(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return absl::string_view(name.data(), name.size());
}

std::optional<transport::SocketAddress> ParseIp(absl::string_view text) {
  const bool v6 = absl::StrContains(text, ':');
  const absl::StatusOr<transport::Address> address =
      transport::Address::Parse(v6 ? absl::StrCat("[", text, "]:0") : absl::StrCat(text, ":0"));
  return address.ok() ? transport::LiteralAddress(*address) : std::nullopt;
}

}  // namespace

bool IsLocalhost(std::string_view name) {
  const absl::string_view host = WithoutFinalDot(name);
  return absl::EqualsIgnoreCase(host, "localhost") || absl::EndsWithIgnoreCase(host, ".localhost");
}

std::vector<transport::SocketAddress> LocalhostAddresses() {
  return {*ParseIp("::1"), *ParseIp("127.0.0.1")};
}

std::vector<transport::SocketAddress> FindInHosts(std::string_view text, std::string_view name) {
  const absl::string_view host = WithoutFinalDot(name);
  std::vector<transport::SocketAddress> addresses;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    line = line.substr(0, line.find('#'));
    std::string address;
    for (const absl::string_view word : absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty())) {
      if (address.empty()) {
        address = std::string(word);
        continue;
      }
      if (!absl::EqualsIgnoreCase(word, host)) continue;
      if (const std::optional<transport::SocketAddress> parsed = ParseIp(address))
        addresses.push_back(*parsed);
      break;
    }
  }
  return addresses;
}

}  // namespace ferry
