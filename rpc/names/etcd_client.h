// Requests of etcd.
#ifndef FERRY_RPC_NAMES_ETCD_CLIENT_H_
#define FERRY_RPC_NAMES_ETCD_CLIENT_H_

#include <google/protobuf/message.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "ferry/rpc/names/etcd_api.pb.h"
#include "ferry/rpc/names/etcd_http.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

// An EtcdClient speaks version 3 of etcd's API through its JSON gateway, with one member of a cluster at a
// time.
//
// Belongs to its loop. Never blocks. It must outlive its calls; callbacks run on the loop, never inside what
// they were given to, and may destroy their call and the client.
class EtcdClient {
 public:
  using Call = EtcdHttp::CallHandle;
  using Message = google::protobuf::Message;

  // What has come of a watch: changes, and its end if it has ended.
  struct WatchNews {
    std::vector<etcd::WatchResponse> responses;
    // OK while it goes on.
    absl::Status end;
  };

  // `purpose` is for errors: "service greeter". REQUIRES: the options are valid.
  EtcdClient(transport::EventLoop& loop, const EtcdOptions& options, std::string_view purpose);

  // Posts `request` to `path` and reads the answer into `response`, which must live until then. The status is
  // etcd's own, or UNAVAILABLE, DEADLINE_EXCEEDED after EtcdOptions::request_timeout, RESOURCE_EXHAUSTED, or
  // INTERNAL if the answer is none of etcd's; with endpoint and purpose.
  Call Post(std::string_view path, const Message& request, Message& response,
            absl::AnyInvocable<void(absl::Status)> done);

  // Watches until the call is destroyed or `on_news` has told of its end.
  Call Watch(const etcd::WatchCreateRequest& request, absl::AnyInvocable<void(WatchNews)> on_news);

  // What the next call is sent to; and another member from now on, if there is one.
  const std::string& endpoint() const { return options_.endpoints[endpoint_]; }
  void UseNextEndpoint() { endpoint_ = (endpoint_ + 1) % options_.endpoints.size(); }

  // `problem` with the endpoint and the purpose.
  absl::Status Error(absl::StatusCode code, std::string_view problem) const;

 private:
  const EtcdOptions options_;
  const std::string purpose_;
  size_t endpoint_;
  EtcdHttp http_;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_CLIENT_H_
