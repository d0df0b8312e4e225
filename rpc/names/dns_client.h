// Asking DNS servers.
#ifndef FERRY_RPC_NAMES_DNS_CLIENT_H_
#define FERRY_RPC_NAMES_DNS_CLIENT_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/dns_message.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"

struct ares_channeldata;

namespace ferry {

// A DnsClient asks DNS servers through c-ares, whose sockets and timeouts it has the loop watch over.
//
// Belongs to its loop. Never blocks but to read resolv.conf(5), when it is created: one that is created anew
// for each lookup follows that file, and uses a source port of its own.
class DnsClient {
 public:
  struct Options {
    // "10.0.0.53:53" and so on; empty for those of resolv.conf.
    std::vector<std::string> servers;
    // How long to wait for each server, at first; twice as long each time all have been asked.
    absl::Duration attempt_timeout;
    // How often to ask each.
    int attempts = 1;
    // Whether to try a name in the domains that resolv.conf says too.
    bool search = true;
  };

  struct Result {
    // UNAVAILABLE, in c-ares' words, if nothing could be found out; or an error of ParseDnsAnswer's.
    absl::StatusOr<DnsAnswer> answer;
    // The error is the servers' own answer: there is no such name, or it has no such record.
    bool negative = false;
    // For how long that may be kept, if they said.
    std::optional<absl::Duration> negative_ttl = std::nullopt;
  };
  using Callback = absl::AnyInvocable<void(Result) &&>;

  // An error in c-ares' words if there is no memory, or a server is none.
  static absl::StatusOr<std::unique_ptr<DnsClient>> Create(const Options& options,
                                                           transport::EventLoop& loop);
  // Gives up: what was asked is not answered any more.
  ~DnsClient();
  DnsClient(const DnsClient&) = delete;
  DnsClient& operator=(const DnsClient&) = delete;

  // Asks for the records of `type` of `name`, and runs `done` once, never inside Query; it may destroy this.
  void Query(const std::string& name, DnsType type, Callback done);

  // Those that are asked: "127.0.0.1:53, [::1]:53".
  std::string servers() const;

  // What c-ares says when nobody has answered in time.
  static absl::Status NoAnswer();

 private:
  class Socket;
  struct Question {
    DnsClient* client;
    DnsType type;
    Callback done;
    std::list<Question>::iterator self = {};
  };
  struct Finished {
    Result result;
    Callback done;
  };

  DnsClient(const Options& options, transport::EventLoop& loop);
  absl::Status Init(const Options& options);

  // c-ares calls these.
  static void OnAnswer(void* question, int status, int timeouts, unsigned char* message, int size);
  static void OnSocketState(void* client, int fd, int readable, int writable);

  void Finish(std::list<Question>::iterator question, Result result);
  void SetSocket(int fd, bool readable, bool writable);
  void Process(int readable, int writable);
  void ArmTimeout();
  void TellNext();

  transport::EventLoop& loop_;
  const bool search_;
  ares_channeldata* channel_ = nullptr;
  std::map<int, std::unique_ptr<Socket>> sockets_;
  std::list<Question> asked_;
  // Told of one after the other, outside of c-ares, which may not be destroyed by what it calls.
  std::list<Finished> finished_;
  transport::Timer tell_timer_;
  transport::Timer timeout_timer_;
};

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_DNS_CLIENT_H_
