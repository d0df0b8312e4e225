#include "ferry/rpc/names/etcd_entry.h"

#include <google/protobuf/util/json_util.h>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/names/etcd_address.h"
#include "ferry/rpc/names/etcd_api.pb.h"

namespace ferry {
namespace {

std::string Excerpt(std::string_view bytes) {
  constexpr size_t kMost = 100;
  const std::string_view shown = bytes.substr(0, kMost);
  return absl::StrCat("'", absl::CHexEscape({shown.data(), shown.size()}),
                      bytes.size() > kMost ? "'..." : "'");
}

}  // namespace

std::string EtcdValue(const EtcdServerDetails& details) {
  etcd::Server server;
  if (details.weight != 1) server.set_weight(details.weight);
  server.set_locality(details.locality);
  server.set_priority(details.priority);
  std::string json;
  // A locality that is no UTF-8 has been refused.
  static_cast<void>(google::protobuf::util::MessageToJsonString(server, &json));
  return json;
}

absl::StatusOr<ResolvedServer> ParseEtcdEntry(std::string_view prefix, std::string_view key,
                                              std::string_view value) {
  const auto malformed = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(
        absl::StrCat("etcd key ", Excerpt(key), " with value ", Excerpt(value), ": ", problem));
  };
  const std::string_view name = key.substr(prefix.size());
  const absl::StatusOr<transport::SocketAddress> address = ParseLiteralAddress(name);
  if (!address.ok()) return malformed(address.status().message());
  etcd::Server server;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  if (!value.empty() &&
      !google::protobuf::util::JsonStringToMessage({value.data(), value.size()}, &server, options).ok()) {
    return malformed(R"(the value is not like {"weight": 1, "locality": "region/zone", "priority": 0})");
  }
  if (server.has_weight() && server.weight() == 0) return malformed("the weight is 0, the least is 1");
  return ResolvedServer{.name = std::string(name),
                        .addresses = {*address},
                        .weight = server.has_weight() ? server.weight() : 1,
                        .locality = server.locality(),
                        .priority = server.priority()};
}

}  // namespace ferry
