#include "ferry/transport/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

using testing::HasSubstr;

SocketAddress TcpAddress() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

class SocketOptionsTest : public testing::Test {
 protected:
  absl::Status Apply(const SocketAddress& address, const SocketOptions& options) {
    absl::StatusOr<FileDescriptor> socket = OpenSocket(address);
    EXPECT_TRUE(socket.ok()) << socket.status();
    socket_ = *std::move(socket);
    return ApplyOptions(socket_, address, options);
  }

  int Get(int level, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    EXPECT_EQ(getsockopt(socket_.get(), level, option, &value, &size), 0);
    return value;
  }

  FileDescriptor socket_;
};

TEST_F(SocketOptionsTest, SetsTheDefaults) {
  ASSERT_TRUE(Apply(TcpAddress(), {}).ok());
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(Get(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPIDLE), 60);
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPINTVL), 10);
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_USER_TIMEOUT), 30'000);
}

TEST_F(SocketOptionsTest, LeavesAloneWhatIsTurnedOff) {
  ASSERT_TRUE(
      Apply(TcpAddress(), {.no_delay = false, .keepalive = false, .user_timeout = absl::ZeroDuration()})
          .ok());
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_EQ(Get(SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(Get(IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
}

TEST_F(SocketOptionsTest, RoundsKeepaliveTimesUpToWholeSeconds) {
  struct Case {
    const char* name;
    absl::Duration time;
    int seconds;
  };
  const Case kCases[] = {{"nothing", absl::ZeroDuration(), 1},
                         {"a part of a second", absl::Milliseconds(1), 1},
                         {"a second and a half", absl::Milliseconds(1500), 2},
                         {"for good", absl::InfiniteDuration(), 32767}};
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status applied =
        Apply(TcpAddress(), {.keepalive_idle = c.time, .keepalive_interval = c.time, .keepalive_probes = 7});
    ASSERT_TRUE(applied.ok()) << applied;
    EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPIDLE), c.seconds);
    EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPINTVL), c.seconds);
    EXPECT_EQ(Get(IPPROTO_TCP, TCP_KEEPCNT), 7);
  }
}

TEST_F(SocketOptionsTest, SetsBufferSizesOfTcpAndUnixSockets) {
  for (const SocketAddress& address : {TcpAddress(), SocketAddress::UnixAbstract("ferry")}) {
    SCOPED_TRACE(address.ToString());
    const absl::Status applied =
        Apply(address, {.send_buffer_bytes = 30'000, .receive_buffer_bytes = 40'000});
    ASSERT_TRUE(applied.ok()) << applied;
    // The kernel doubles them, for its own use.
    EXPECT_EQ(Get(SOL_SOCKET, SO_SNDBUF), 60'000);
    EXPECT_EQ(Get(SOL_SOCKET, SO_RCVBUF), 80'000);
  }
}

TEST_F(SocketOptionsTest, SparesUnixSocketsTheOptionsOfTcp) {
  const absl::Status applied = Apply(SocketAddress::UnixAbstract("ferry"), {});
  EXPECT_TRUE(applied.ok()) << applied;
  EXPECT_EQ(Get(SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST_F(SocketOptionsTest, NamesTheOptionAndTheValueThatCannotBeHad) {
  absl::Status applied = Apply(TcpAddress(), {.keepalive_probes = 1000});
  EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(applied.message()), HasSubstr("cannot set TCP_KEEPCNT to 1000"));
  applied = Apply(TcpAddress(), {.send_buffer_bytes = 3'000'000'000});
  EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(applied.message(), "SO_SNDBUF is 3000000000 bytes, limit is 2147483647");
}

TEST(BufferForPathTest, IsThroughputTimesRoundTrip) {
  EXPECT_EQ(BufferForPath(1'000'000, absl::Milliseconds(250)), 250'000u);
  EXPECT_EQ(BufferForPath(1'250'000'000, absl::Milliseconds(500)), 625'000'000u);
  EXPECT_EQ(BufferForPath(1'000'000, absl::ZeroDuration()), 0u);
}

}  // namespace
}  // namespace ferry::transport
