#include "ferry/rpc/in_process.h"

#include <utility>

#include "ferry/transport/byte_stream.h"
#include "ferry/transport/connector.h"

namespace ferry {

absl::StatusOr<std::unique_ptr<Channel>> CreateInProcessChannel(Server& server,
                                                                const ChannelOptions& options) {
  auto connector = std::make_unique<transport::MemoryConnector>(
      [&server](std::unique_ptr<transport::ByteStream> stream) { return server.Serve(std::move(stream)); });
  return Channel::CreateOver(std::move(connector), options);
}

}  // namespace ferry
