// A channel to a server in the same process.
#ifndef FERRY_RPC_IN_PROCESS_H_
#define FERRY_RPC_IN_PROCESS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"

namespace ferry {

// A channel whose calls are served by `server`, without sockets but with everything else: threads, deadlines,
// and messages that are encoded and parsed. For tests of applications.
//
// The server need not listen anywhere. It must outlive the channel.
absl::StatusOr<std::unique_ptr<Channel>> CreateInProcessChannel(Server& server,
                                                                const ChannelOptions& options = {});

}  // namespace ferry

#endif  // FERRY_RPC_IN_PROCESS_H_
