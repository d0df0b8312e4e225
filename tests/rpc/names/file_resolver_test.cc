#include "ferry/rpc/names/file_resolver.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/told.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/temporary_directory.h"

namespace ferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// inotify has told of a change by the time the call that made it returns: nothing here waits.
class FileResolverTest : public testing::Test {
 protected:
  ~FileResolverTest() override {
    test::RunIn(*loop_, [this] { resolver_.reset(); });
  }

  void Start(const std::string& path) {
    test::RunIn(*loop_, [&] {
      resolver_ = NewFileResolver(path, options_, *loop_);
      resolver_->Start(told_);
      EXPECT_EQ(told_.count(), 0);
    });
  }
  void Advance(absl::Duration time) {
    loop_->RunUntilIdle();
    clock_.Advance(time);
    loop_->RunUntilIdle();
  }
  void Settle() { Advance(options_.settle); }

  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  // As one that is careful does.
  static void Replace(const std::string& path, const std::string& text) {
    Write(path + ".new", text);
    std::filesystem::rename(path + ".new", path);
  }

  transport::ManualClock clock_;
  const std::unique_ptr<transport::EventLoop> loop_ = test::NewLoop({.clock = &clock_});
  const test::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/servers";
  const FileResolverOptions options_ = {};
  test::Told told_;
  std::unique_ptr<Resolver> resolver_;
};

TEST_F(FileResolverTest, TellsWhatIsThere) {
  Write(path_, "10.0.0.1:1 weight=2\n10.0.0.2:1\n");
  Start(path_);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:1 weight=2", "10.0.0.2:1"));
  EXPECT_EQ(told_.count(), 1);
}

TEST_F(FileResolverTest, TellsOfEveryKindOfChange) {
  const std::string versions = directory_.path() + "/v";
  struct Case {
    const char* name;
    std::function<void()> change;
    const char* server;
  };
  const Case kCases[] = {
      {"rewritten in place", [&] { Write(path_, "10.0.0.2:1"); }, "10.0.0.2:1"},
      {"replaced", [&] { Replace(path_, "10.0.0.3:1"); }, "10.0.0.3:1"},
      {"another file is linked there",
       [&] {
         Write(versions, "10.0.0.4:1");
         std::filesystem::remove(path_);
         std::filesystem::create_hard_link(versions, path_);
       },
       "10.0.0.4:1"},
      // As Kubernetes mounts a ConfigMap: servers -> current/servers, and current is replaced.
      {"a link on its way",
       [&] {
         std::filesystem::create_directory(directory_.path() + "/1");
         Write(directory_.path() + "/1/servers", "10.0.0.5:1");
         std::filesystem::create_directory_symlink("1", directory_.path() + "/current");
         std::filesystem::remove(path_);
         std::filesystem::create_symlink("current/servers", path_);
       },
       "10.0.0.5:1"},
      {"a link on its way is replaced",
       [&] {
         std::filesystem::create_directory(directory_.path() + "/2");
         Write(directory_.path() + "/2/servers", "10.0.0.6:1");
         std::filesystem::create_directory_symlink("2", directory_.path() + "/next");
         std::filesystem::rename(directory_.path() + "/next", directory_.path() + "/current");
       },
       "10.0.0.6:1"},
  };
  Write(path_, "10.0.0.1:1");
  Start(path_);
  int count = 1;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    c.change();
    Settle();
    EXPECT_THAT(told_.servers(), ElementsAre(c.server));
    EXPECT_EQ(told_.count(), ++count);
  }
}

TEST_F(FileResolverTest, SaysNothingOfWhatChangesNothing) {
  Write(path_, "10.0.0.1:1");
  Start(path_);
  Replace(path_, "10.0.0.1:1");
  Settle();
  Write(directory_.path() + "/other", "10.0.0.2:1");
  Settle();
  EXPECT_EQ(told_.count(), 1);
}

TEST_F(FileResolverTest, AMalformedEntryIsAnErrorToldOnce) {
  Write(path_, "10.0.0.1:1");
  Start(path_);
  Replace(path_, "10.0.0.2:1\nnonsense\n");
  Settle();
  EXPECT_EQ(told_.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(told_.error(), HasSubstr(absl::StrCat(path_, ":2: entry \"nonsense\": ")));
  Advance(options_.poll_interval);
  EXPECT_EQ(told_.count(), 2);
  Replace(path_, "10.0.0.1:1");  // what was there before is told again, for it counts as of now
  Settle();
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:1"));
}

TEST_F(FileResolverTest, AFileThatGoesIsAnErrorUntilItIsBack) {
  Write(path_, "10.0.0.1:1");
  Start(path_);
  std::filesystem::remove(path_);
  Settle();
  EXPECT_THAT(told_.error(), HasSubstr(absl::StrCat("cannot open ", path_, ": No such file or directory")));
  Write(path_, "10.0.0.2:1");
  Settle();
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:1"));
  EXPECT_EQ(told_.count(), 3);
}

TEST_F(FileResolverTest, WaitsForADirectory) {
  const std::string directory = directory_.path() + "/later";
  const std::string path = directory + "/servers";
  Start(path);
  EXPECT_THAT(told_.error(), HasSubstr(absl::StrCat("cannot open ", path)));
  Advance(options_.missing_poll_interval);
  EXPECT_EQ(told_.count(), 1);
  std::filesystem::create_directory(directory);
  Write(path, "10.0.0.1:1");
  Advance(options_.missing_poll_interval);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:1"));
  // It is watched now, and again after it has been replaced as a whole.
  Replace(path, "10.0.0.2:1");
  Settle();
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:1"));
  std::filesystem::remove_all(directory);
  Settle();
  EXPECT_FALSE(told_.ok());
  std::filesystem::create_directory(directory);
  Write(path, "10.0.0.3:1");
  Advance(options_.missing_poll_interval);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.3:1"));
  Replace(path, "10.0.0.4:1");
  Settle();
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.4:1"));
}

TEST_F(FileResolverTest, NoticesWhatTheSystemDoesNotTell) {
  const std::string elsewhere = directory_.path() + "/elsewhere";
  std::filesystem::create_directory(elsewhere);
  Write(elsewhere + "/servers", "10.0.0.1:1");
  std::filesystem::create_symlink(elsewhere + "/servers", path_);
  Start(path_);
  Replace(elsewhere + "/servers", "10.0.0.2:1");
  Settle();
  EXPECT_EQ(told_.count(), 1);
  Advance(options_.poll_interval);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:1"));
}

TEST_F(FileResolverTest, CollectsChanges) {
  Write(path_, "10.0.0.1:1");
  Start(path_);
  // 100 changes, one a millisecond: as many are told as there are times to settle.
  for (int i = 0; i < 100; ++i) {
    Replace(path_, absl::StrCat("10.0.1.", i, ":1"));
    Advance(options_.settle / 20);
  }
  EXPECT_LE(told_.count(), 1 + 100 / 20);
  EXPECT_GE(told_.count(), 100 / 20);
  Settle();
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.1.99:1"));
}

TEST_F(FileResolverTest, SaysWhatIsTooLargeOrNoFile) {
  Write(path_, std::string(4 * 1024 * 1024 + 1, '#'));
  Start(path_);
  EXPECT_EQ(told_.error(), absl::StrCat(path_, " is over the limit of 4194304 bytes"));
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  Settle();
  EXPECT_THAT(told_.error(), HasSubstr(absl::StrCat("cannot read ", path_, ": Is a directory")));
}

TEST_F(FileResolverTest, MayBeDestroyedByWhatItTells) {
  class Destroyer final : public Resolver::Watcher {
   public:
    explicit Destroyer(std::unique_ptr<Resolver>& resolver) : resolver_(resolver) {}
    void OnServers(absl::StatusOr<std::vector<ResolvedServer>>) override { resolver_.reset(); }

   private:
    std::unique_ptr<Resolver>& resolver_;
  };
  Destroyer destroyer(resolver_);
  Write(path_, "10.0.0.1:1");
  test::RunIn(*loop_, [&] {
    resolver_ = NewFileResolver(path_, options_, *loop_);
    resolver_->Start(destroyer);
  });
  EXPECT_EQ(resolver_, nullptr);
}

TEST(FileResolverOptionsTest, SaysWhatIsNotPositive) {
  EXPECT_TRUE(FileResolverOptions().Validate().ok());
  EXPECT_EQ(FileResolverOptions{.settle = absl::ZeroDuration()}.Validate(),
            absl::InvalidArgumentError("FileResolverOptions::settle is 0, must be positive"));
  EXPECT_EQ(FileResolverOptions{.poll_interval = -absl::Seconds(1)}.Validate().message(),
            "FileResolverOptions::poll_interval is -1s, must be positive");
}

}  // namespace
}  // namespace ferry
