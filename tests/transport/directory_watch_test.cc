#include <poll.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/transport/posix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::transport {
namespace {

using testing::HasSubstr;

class DirectoryWatchTest : public testing::Test {
 protected:
  DirectoryWatchTest() : path_(parent_.path() + "/watched") {
    EXPECT_TRUE(std::filesystem::create_directory(path_));
    Write("old", "text");
    absl::StatusOr<DirectoryWatch> watch = DirectoryWatch::Create(path_);
    EXPECT_TRUE(watch.ok()) << watch.status();
    watch_ = std::make_unique<DirectoryWatch>(*std::move(watch));
  }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name) << text;
  }
  // Whether there are changes; the system queues them as they happen.
  bool Readable() const {
    pollfd waiting = {.fd = watch_->fd().get(), .events = POLLIN, .revents = 0};
    return poll(&waiting, 1, 0) == 1;
  }
  // The same, and takes them.
  bool Changed() {
    const bool readable = Readable();
    EXPECT_TRUE(watch_->TakeChanges());
    EXPECT_FALSE(Readable()) << "they were taken";
    return readable;
  }

  const test::TemporaryDirectory parent_;
  const std::string path_;
  std::unique_ptr<DirectoryWatch> watch_;
};

TEST_F(DirectoryWatchTest, TellsNothingWhereNothingHappens) { EXPECT_FALSE(Changed()); }

TEST_F(DirectoryWatchTest, TellsOfAFileThatWasWritten) {
  Write("old", "other text");
  EXPECT_TRUE(Changed());
}

TEST_F(DirectoryWatchTest, TellsOfNamesThatComeAndGo) {
  Write("new", "");
  EXPECT_TRUE(Changed());
  std::filesystem::remove(path_ + "/new");
  EXPECT_TRUE(Changed());
  std::filesystem::create_symlink("old", path_ + "/link");
  EXPECT_TRUE(Changed());
}

TEST_F(DirectoryWatchTest, TellsOfAFileThatIsRenamedIntoPlace) {
  std::ofstream(parent_.path() + "/ready") << "text";
  EXPECT_FALSE(Changed()) << "elsewhere";
  std::filesystem::rename(parent_.path() + "/ready", path_ + "/old");
  EXPECT_TRUE(Changed());
  std::filesystem::rename(path_ + "/old", parent_.path() + "/away");
  EXPECT_TRUE(Changed());
}

TEST_F(DirectoryWatchTest, TellsOfPermissionsThatChange) {
  std::filesystem::permissions(path_ + "/old", std::filesystem::perms::none);
  EXPECT_TRUE(Changed());
}

TEST_F(DirectoryWatchTest, ReadingIsNoChange) {
  std::string text;
  std::ifstream(path_ + "/old") >> text;
  EXPECT_EQ(text, "text");
  EXPECT_FALSE(Changed());
}

TEST_F(DirectoryWatchTest, SaysWhenTheDirectoryIsGone) {
  std::filesystem::remove_all(path_);
  EXPECT_TRUE(Readable());
  EXPECT_FALSE(watch_->TakeChanges());
}

TEST_F(DirectoryWatchTest, SaysWhenTheDirectoryHasMoved) {
  std::filesystem::rename(path_, parent_.path() + "/elsewhere");
  EXPECT_TRUE(Readable());
  EXPECT_FALSE(watch_->TakeChanges());
}

TEST_F(DirectoryWatchTest, TakesMoreChangesThanOneReadHolds) {
  for (int i = 0; i < 2000; ++i) Write(std::to_string(i), "");
  EXPECT_TRUE(Changed());
}

TEST_F(DirectoryWatchTest, NamesTheDirectoryThatCannotBeWatched) {
  const absl::Status missing = DirectoryWatch::Create(path_ + "/missing").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(path_ + "/missing"));
  const absl::Status file = DirectoryWatch::Create(path_ + "/old").status();
  EXPECT_FALSE(file.ok());
  EXPECT_THAT(std::string(file.message()), HasSubstr("/old"));
}

}  // namespace
}  // namespace ferry::transport
