#include "ferry/transport/posix.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

FileDescriptor Duplicate() { return FileDescriptor(dup(STDERR_FILENO)); }

TEST(FileDescriptorTest, ClosesWhatItOwns) {
  int fd;
  {
    const FileDescriptor owner = Duplicate();
    fd = owner.get();
    EXPECT_TRUE(IsOpen(fd));
  }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(FileDescriptorTest, HandsOverWhenMoved) {
  FileDescriptor from = Duplicate();
  const int fd = from.get();
  FileDescriptor to = Duplicate();
  const int replaced = to.get();
  to = std::move(from);
  EXPECT_EQ(to.get(), fd);
  EXPECT_TRUE(IsOpen(fd));
  EXPECT_FALSE(IsOpen(replaced));
}

TEST(ErrorStatusTest, SaysWhatFailedAndWhy) {
  const absl::Status status = ErrorStatus(EACCES, "cannot bind 127.0.0.1:80");
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(), "cannot bind 127.0.0.1:80: Permission denied");
}

class EpollTest : public ::testing::Test {
 protected:
  Epoll epoll_ = *Epoll::Create();
  WakeUp wake_up_ = *WakeUp::Create();
  std::array<epoll_event, 4> events_;

  size_t Wait(absl::Duration timeout) {
    return epoll_.Wait(absl::MakeSpan(events_), absl::ToInt64Nanoseconds(timeout));
  }
};

TEST_F(EpollTest, ReportsEverySignalOnceWithoutItsBeingRead) {
  ASSERT_TRUE(epoll_.Add(wake_up_.fd(), EPOLLIN | EPOLLET, this).ok());
  EXPECT_EQ(Wait(absl::ZeroDuration()), 0u);
  for (int i = 0; i < 3; ++i) {
    wake_up_.Signal();
    ASSERT_EQ(Wait(absl::InfiniteDuration()), 1u);
    EXPECT_EQ(events_[0].data.ptr, this);
    EXPECT_EQ(Wait(absl::ZeroDuration()), 0u);
  }
}

TEST_F(EpollTest, ReportsNothingOfWhatWasRemoved) {
  ASSERT_TRUE(epoll_.Add(wake_up_.fd(), EPOLLIN, this).ok());
  wake_up_.Signal();
  epoll_.Remove(wake_up_.fd());
  EXPECT_EQ(Wait(absl::ZeroDuration()), 0u);
}

TEST_F(EpollTest, WaitsNoLongerThanItShould) {
  EXPECT_EQ(Wait(absl::Nanoseconds(1)), 0u);
  EXPECT_EQ(Wait(absl::Microseconds(300)), 0u);
}

TEST_F(EpollTest, RefusesToWatchTheSameTwice) {
  ASSERT_TRUE(epoll_.Add(wake_up_.fd(), EPOLLIN, this).ok());
  const absl::Status again = epoll_.Add(wake_up_.fd(), EPOLLIN, this);
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(again.message(), "cannot watch a descriptor: File exists");
}

TEST(WakeUpTest, AwaitTakesEverySignalSoFar) {
  const WakeUp wake_up = *WakeUp::Create();
  EXPECT_FALSE(wake_up.Await(absl::ZeroDuration()));
  for (int i = 0; i < 3; ++i) wake_up.Signal();
  EXPECT_TRUE(wake_up.Await(absl::ZeroDuration()));
  EXPECT_FALSE(wake_up.Await(absl::Nanoseconds(1)));
  wake_up.Signal();
  EXPECT_TRUE(wake_up.Await(absl::InfiniteDuration()));
}

TEST(WakeUpTest, AwaitWaitsForASignal) {
  const WakeUp there = *WakeUp::Create();
  const WakeUp back = *WakeUp::Create();
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) {
      EXPECT_TRUE(there.Await(absl::InfiniteDuration()));
      back.Signal();
    }
  });
  for (int i = 0; i < 1000; ++i) {
    there.Signal();
    EXPECT_TRUE(back.Await(absl::InfiniteDuration()));
  }
  other.join();
}

}  // namespace
}  // namespace ferry::transport
