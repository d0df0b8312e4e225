// What a client may say of one call.
#ifndef FERRY_RPC_CALL_OPTIONS_H_
#define FERRY_RPC_CALL_OPTIONS_H_

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "ferry/rpc/metadata.h"

namespace ferry {

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

  // Where to put the metadata the server answers with; null if it is of no interest. Not owned; must live
  // until the call has ended: for a call that streams, until Finish has said so. Written before the call's
  // end is told.
  ReplyMetadata* reply_metadata = nullptr;
};

}  // namespace ferry

#endif  // FERRY_RPC_CALL_OPTIONS_H_
