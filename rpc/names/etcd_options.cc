#include "ferry/rpc/names/etcd_options.h"

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/backoff.h"
#include "ferry/rpc/names/etcd_address.h"

namespace ferry {
namespace {

constexpr size_t kMaxServiceBytes = 1024;

absl::Status ValidateDuration(std::string_view name, absl::Duration value, absl::Duration least) {
  if (value >= least && value != absl::InfiniteDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("EtcdOptions::", std::string(name), " is ",
                                                 absl::FormatDuration(value), ", the least is ",
                                                 absl::FormatDuration(least)));
}

}  // namespace

absl::Status ValidateEtcdOptions(const EtcdOptions& options) {
  if (options.endpoints.empty()) return absl::InvalidArgumentError("EtcdOptions::endpoints is empty");
  for (const std::string& endpoint : options.endpoints) {
    absl::StatusOr<transport::SocketAddress> address = ParseLiteralAddress(endpoint);
    if (!address.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("EtcdOptions::endpoints: ", address.status().message()));
    }
    if (address->is_unix() && address->unix_path().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("EtcdOptions::endpoints: '", endpoint, "' is neither an IP address nor a path"));
    }
  }
  if (!absl::StartsWith(options.prefix, "/") || !absl::EndsWith(options.prefix, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("EtcdOptions::prefix is '", options.prefix, "', it has to begin and end with '/'"));
  }
  const absl::Duration kLeast = absl::Milliseconds(1);
  absl::Status valid = ValidateDuration("ttl", options.ttl, absl::Seconds(1));
  valid.Update(ValidateDuration("request_timeout", options.request_timeout, kLeast));
  valid.Update(ValidateDuration("probe_interval", options.probe_interval, kLeast));
  valid.Update(ValidateDuration("backoff_min", options.backoff_min, kLeast));
  valid.Update(ValidateDuration("backoff_max", options.backoff_max, options.backoff_min));
  return valid;
}

absl::Status ValidateServiceName(std::string_view service) {
  const std::string name(service.substr(0, kMaxServiceBytes));
  if (name.empty()) return absl::InvalidArgumentError("the service's name is empty");
  if (service.size() > kMaxServiceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the service's name is ", service.size(), " bytes, limit is ", kMaxServiceBytes));
  }
  if (absl::StrContains(name, "/")) {
    return absl::InvalidArgumentError(absl::StrCat("the service's name '", name, "' has a '/' in it"));
  }
  return absl::OkStatus();
}

std::string EtcdKey(const EtcdOptions& options, std::string_view service, std::string_view address) {
  return absl::StrCat(options.prefix, std::string(service), "/", std::string(address));
}

std::string EtcdRangeEnd(std::string prefix) {
  ++prefix.back();
  return prefix;
}

absl::Duration EtcdBackoff(const EtcdOptions& options, int failures) {
  if (failures <= 1) return absl::ZeroDuration();
  return Backoff(options.backoff_min, options.backoff_max).Wait(failures - 2);
}

}  // namespace ferry
