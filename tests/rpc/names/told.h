// What a resolver has told.
#ifndef FERRY_TESTS_RPC_NAMES_TOLD_H_
#define FERRY_TESTS_RPC_NAMES_TOLD_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/socket_address.h"

namespace ferry::test {

// "10.0.0.1:80", or "a:80 weight=2 locality=x priority=1 at [::1]:80,127.0.0.1:80" as far as there is
// something to say.
inline std::string Describe(const ResolvedServer& server) {
  std::string text = server.name;
  if (server.weight != 1) absl::StrAppend(&text, " weight=", server.weight);
  if (!server.locality.empty()) absl::StrAppend(&text, " locality=", server.locality);
  if (server.priority != 0) absl::StrAppend(&text, " priority=", server.priority);
  const std::string addresses =
      absl::StrJoin(server.addresses, ",", [](std::string* out, const transport::SocketAddress& address) {
        absl::StrAppend(out, address.ToString());
      });
  if (addresses != server.name) absl::StrAppend(&text, " at ", addresses);
  return text;
}

inline std::vector<std::string> DescribeAll(const std::vector<ResolvedServer>& servers) {
  std::vector<std::string> all;
  all.reserve(servers.size());
  for (const ResolvedServer& server : servers) all.push_back(Describe(server));
  return all;
}

// A Told keeps what a resolver tells it.
class Told final : public Resolver::Watcher {
 public:
  void OnServers(absl::StatusOr<std::vector<ResolvedServer>> servers) override {
    ++count_;
    last_ = std::move(servers);
    if (last_.ok()) list_ = DescribeAll(*last_);
  }

  // How often it was told of something.
  int count() const { return count_; }
  // The last thing: the servers as Describe has them, or an error.
  bool ok() const { return last_.ok(); }
  std::vector<std::string> servers() const {
    return last_.ok() ? DescribeAll(*last_) : std::vector<std::string>{last_.status().ToString()};
  }
  // The last servers, whatever error came since.
  const std::vector<std::string>& list() const { return list_; }
  std::string error() const { return std::string(last_.status().message()); }
  absl::StatusCode code() const { return last_.status().code(); }

 private:
  int count_ = 0;
  absl::StatusOr<std::vector<ResolvedServer>> last_;
  std::vector<std::string> list_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_NAMES_TOLD_H_
