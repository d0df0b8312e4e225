// What a client may say of one call.
#ifndef FERRY_RPC_CALL_OPTIONS_H_
#define FERRY_RPC_CALL_OPTIONS_H_

#include <optional>
#include <stop_token>
#include <string_view>

#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"
#include "ferry/rpc/retry_policy.h"

namespace ferry {

class CallScope;

// A ReplyMetadata is what came back beside a call's reply or error.
struct ReplyMetadata {
  // Sent by the server before its reply.
  Metadata initial;
  // Sent by the server with the call's end.
  Metadata trailing;
};

// CallOptions are the options of one call. They are read before the call that takes them returns.
struct CallOptions {
  // How long the call may take, from its start; it then ends with DEADLINE_EXCEEDED. Unset: the method's own
  // default (rpc/options.proto), or no limit if it has none. Zero or less: the call ends at once and nothing
  // is sent. Travels to the server in microseconds (PROTOCOL.md section 6).
  std::optional<absl::Duration> timeout = std::nullopt;

  // Sent with the request. The encoded total may not exceed the server's limit (16 KiB unless it says
  // otherwise).
  Metadata metadata = {};

  // False: the call fails with UNAVAILABLE when a connection cannot be made. True: it waits for one until its
  // deadline, through any number of attempts.
  bool wait_for_ready = false;

  // Cancels the call when a stop is requested of it: the call ends with CANCELLED, unless it has ended, and
  // the server is told. A request may be made on any thread, and before the start. Default: nobody can.
  std::stop_token stop_token = {};

  // The work that the call is made for (call_scope.h). Null: the calling thread's, as in a handler. It gives
  // the call no more time than it has left itself, and cancels it when it is cancelled; not owned, read
  // before the call that takes these options returns.
  CallScope* scope = nullptr;
  // The call is made for nothing but itself, whatever work starts it.
  bool detached = false;

  // For a channel that spreads calls by a key (BalancingPolicy::kConsistentHash): calls with equal keys go to
  // one server as long as it can take them. Empty: the call goes anywhere. Not owned; read before the call
  // that takes these options returns. (Not a std::string, which GCC 12 copies byte by byte, with its pointer
  // into itself, where options are a temporary in a co_await.)
  std::string_view hash_key = {};

  // How the call is sent again, and whether to several servers at once, if it is to be otherwise than the
  // method's .proto and the channel say; what it leaves unset is as they do. For channels to a service of
  // several servers: one to a single server ignores it. INVALID_ARGUMENT ends a call whose policy is out of
  // bounds.
  std::optional<RetryPolicy> retry = std::nullopt;

  // Where to put the metadata the server answers with; null if it is of no interest. Not owned; must live
  // until the call has ended: for a call that streams, until Finish has said so. Written before the call's
  // end is told.
  ReplyMetadata* reply_metadata = nullptr;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_OPTIONS_H_
