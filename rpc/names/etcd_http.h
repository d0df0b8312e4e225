// HTTP requests from an event loop.
#ifndef FERRY_RPC_NAMES_ETCD_HTTP_H_
#define FERRY_RPC_NAMES_ETCD_HTTP_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {

// An EtcdHttp posts to HTTP servers and hands over what they answer, by libcurl's multi interface on the
// loop's own epoll and timers: no thread, and nothing that waits. Connections are kept and used again.
//
// Belongs to its loop. It must outlive its calls.
class EtcdHttp {
 public:
  struct Request {
    // "127.0.0.1:2379", "[::1]:2379" or "unix:/path"; no host names, for libcurl would look them up on a
    // thread.
    std::string endpoint;
    // "/v3/kv/range"
    std::string path;
    std::string body;
    // From now on; infinite for no limit.
    absl::Duration timeout = absl::InfiniteDuration();
    // What may come and not be handed over yet; more fails the call with RESOURCE_EXHAUSTED.
    size_t max_bytes = 0;
    // Bytes are handed over as they come, instead of all at the end.
    bool streams = false;
  };

  // What is told of a call.
  struct Answer {
    // What has come since the last time, and the HTTP code it came with; 0 if there was none.
    std::string bytes;
    int http_code = 0;
    // This is the last.
    bool ended = false;
    // Then: OK, or UNAVAILABLE, DEADLINE_EXCEEDED or RESOURCE_EXHAUSTED and why there is no whole answer.
    absl::Status status;
  };
  using Callback = absl::AnyInvocable<void(Answer)>;

  // A Call is one request. Destroying it gives it up: the callback does not run any more.
  class Call;
  struct EndCall {
    void operator()(Call* call) const;
  };
  using CallHandle = std::unique_ptr<Call, EndCall>;

  explicit EtcdHttp(transport::EventLoop& loop);
  ~EtcdHttp();
  EtcdHttp(const EtcdHttp&) = delete;
  EtcdHttp& operator=(const EtcdHttp&) = delete;

  // Begins. `callback` runs on the loop, never inside this; it may destroy the call and the EtcdHttp.
  CallHandle Post(const Request& request, Callback callback);

 private:
  struct Socket;
  struct Curl;

  void Act(int socket, int events);
  void CollectEnded();
  void Ready(Call& call);
  void Deliver();
  void WatchSocket(int socket, int what);

  transport::EventLoop& loop_;
  const std::unique_ptr<Curl> curl_;
  absl::flat_hash_map<int, std::unique_ptr<Socket>> sockets_;
  // Calls with something to tell.
  std::deque<Call*> ready_;
  transport::Timer curl_timer_;
  transport::Timer deliver_timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_ETCD_HTTP_H_
