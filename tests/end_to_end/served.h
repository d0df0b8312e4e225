// A server with the test's services and a channel to it, over each kind of address.
#ifndef FERRY_TESTS_END_TO_END_SERVED_H_
#define FERRY_TESTS_END_TO_END_SERVED_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "tests/end_to_end/conformance.ferry.h"
#include "tests/end_to_end/conformance_service.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test::e2e {

// The kinds of address that this machine has: "127.0.0.1:0", "[::1]:0", "unix", "unix-abstract",
// "in-process".
std::vector<std::string> AvailableTransports();

// An unused address of a transport; empty for "in-process". Sockets' files are in `directory`.
std::string NewAddress(std::string_view transport, const TemporaryDirectory& directory);

// A channel to `address`. Dies if that cannot be made.
std::unique_ptr<Channel> ChannelTo(std::string_view address, const ChannelOptions& options = {});

// A Served is a server of both services that listens on one new address, a channel to it, and its stubs.
class Served {
 public:
  explicit Served(std::string_view transport = "127.0.0.1:0",
                  const ServerOptions& server_options = {.threads = 2},
                  const ChannelOptions& channel_options = {});
  // Calls that are still blocked are let go.
  ~Served();

  // Another channel to the same server.
  std::unique_ptr<Channel> NewChannel(const ChannelOptions& options = {});

  // Where the server listens; empty if it is in-process.
  const std::string& address() const { return address_; }

  TestConformance service;
  TestOther other_service;
  std::unique_ptr<Server> server;
  std::unique_ptr<Channel> channel;
  std::unique_ptr<ConformanceStub> stub;
  std::unique_ptr<OtherStub> other;

 private:
  TemporaryDirectory directory_;
  std::string address_;
};

// A message with an id and a payload of `size` bytes that depend on it.
Message MessageOf(uint64_t id, size_t size);

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_SERVED_H_
