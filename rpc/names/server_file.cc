#include "ferry/rpc/names/server_file.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/names/list_resolver.h"
#include "ferry/transport/address.h"

namespace ferry {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr uint32_t kMaxWeight = 1'000'000;
constexpr uint32_t kMaxPriority = 65'535;

// Takes the next word off the front of `*line`; empty at its end or where a comment begins.
std::string_view TakeWord(std::string_view* line) {
  line->remove_prefix(std::min(line->find_first_not_of(kBlanks), line->size()));
  if (line->starts_with('#')) *line = {};
  const std::string_view word = line->substr(0, line->find_first_of(kBlanks));
  line->remove_prefix(word.size());
  return word;
}

absl::StatusOr<uint32_t> ParseNumber(std::string_view name, std::string_view text, uint32_t min,
                                     uint32_t max) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= min && number <= max)
    return number;
  return absl::InvalidArgumentError(absl::StrCat(std::string(name), " is \"", std::string(text),
                                                 "\", must be a number from ", min, " to ", max));
}

absl::Status ParseAttribute(std::string_view word, ResolvedServer& server) {
  const size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  const std::string_view value = equals == std::string_view::npos ? "" : word.substr(equals + 1);
  if (name == "weight") {
    absl::StatusOr<uint32_t> weight = ParseNumber(name, value, 1, kMaxWeight);
    if (!weight.ok()) return weight.status();
    server.weight = *weight;
  } else if (name == "priority") {
    absl::StatusOr<uint32_t> priority = ParseNumber(name, value, 0, kMaxPriority);
    if (!priority.ok()) return priority.status();
    server.priority = *priority;
  } else if (name == "locality" && equals != std::string_view::npos) {
    server.locality = value;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", std::string(word), "\" is none of weight=N, locality=text and priority=N"));
  }
  return absl::OkStatus();
}

// `line` begins with a word. Names in errors only what is wrong.
absl::StatusOr<ResolvedServer> ParseEntry(std::string_view line) {
  absl::StatusOr<transport::Address> address = transport::Address::Parse(TakeWord(&line));
  if (!address.ok()) return address.status();
  if (address->kind() == transport::Address::Kind::kTcp && address->port() == 0)
    return absl::InvalidArgumentError("port is 0");
  const std::optional<transport::SocketAddress> literal = transport::LiteralAddress(*address);
  if (!literal) return absl::InvalidArgumentError("its host is a name, must be an IP address");
  ResolvedServer server = ServerAt(*literal);
  absl::flat_hash_set<std::string> seen;
  for (std::string_view word = TakeWord(&line); !word.empty(); word = TakeWord(&line)) {
    if (absl::Status parsed = ParseAttribute(word, server); !parsed.ok()) return parsed;
    std::string name(word.substr(0, word.find('=')));
    if (!seen.insert(name).second) return absl::InvalidArgumentError(absl::StrCat(name, " stands twice"));
  }
  return server;
}

std::string_view Trimmed(std::string_view line) {
  const size_t begin = std::min(line.find_first_not_of(kBlanks), line.size());
  return line.substr(begin, line.find_last_not_of(kBlanks) + 1 - begin);
}

}  // namespace

absl::StatusOr<std::vector<ResolvedServer>> ParseServerFile(std::string_view text, std::string_view path) {
  std::vector<ResolvedServer> servers;
  absl::flat_hash_set<std::string> names;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    absl::StatusOr<ResolvedServer> server = ParseEntry(line);
    if (server.ok() && !names.insert(server->name).second)
      server = absl::InvalidArgumentError("its address has stood before");
    if (!server.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(std::string(path), ":", number, ": entry \"",
                                                     std::string(line), "\": ", server.status().message()));
    }
    servers.push_back(*std::move(server));
  }
  if (servers.empty())
    return absl::FailedPreconditionError(absl::StrCat(std::string(path), ": there is no server in it"));
  return servers;
}

}  // namespace ferry
