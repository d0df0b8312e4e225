// Ferry, as the load program runs it.
#ifndef FERRY_BENCHMARKS_FERRY_ECHO_H_
#define FERRY_BENCHMARKS_FERRY_ECHO_H_

#include <memory>
#include <string>

#include "ferry/benchmarks/implementation.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/transport/loop_group.h"

namespace ferry::bench {

// A FerryEcho is a server with one event loop, and clients of one event loop with a channel for each
// connection.
class FerryEcho final : public Implementation {
 public:
  struct Options {
    // Whether both sides may look for work for a while before they sleep.
    bool polling = true;
    // Whether the server answers on the loop what is otherwise the executor's.
    bool all_inline = false;
    // Whether each channel has up to four connections, with one call at a time on each.
    bool exclusive = false;
  };

  explicit FerryEcho(const Options& options) : options_(options) {}

  absl::StatusOr<std::unique_ptr<EchoServer>> StartServer(const std::string& address) const override;
  absl::Status RunClient(const std::string& address, const Work& work, Meter& meter) const override;
  absl::StatusOr<std::unique_ptr<Caller>> NewCaller(const std::string& address) const override;

 private:
  ServerOptions OptionsOfServer() const;
  // With loops of the channel's own if `loops` is null.
  ChannelOptions OptionsOfChannel(transport::LoopGroup* loops) const;
  absl::Duration PollTime() const;

  const Options options_;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_FERRY_ECHO_H_
