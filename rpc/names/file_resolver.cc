#include "ferry/rpc/names/file_resolver.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/names/server_file.h"
#include "ferry/transport/check.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/timer_queue.h"

namespace ferry {
namespace {

constexpr size_t kMaxFileBytes = 4 * 1024 * 1024;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

class FileResolver final : public Resolver, private transport::EventLoop::Handler {
 public:
  FileResolver(const std::string& path, const FileResolverOptions& options, transport::EventLoop& loop)
      : loop_(loop), path_(path), options_(options), timer_([this] { Look(); }) {
    loop_.AssertInLoop();
  }
  ~FileResolver() override {
    loop_.AssertInLoop();
    loop_.timers().Cancel(timer_);
    StopWatching();
  }

  void Start(Watcher& watcher) override {
    loop_.AssertInLoop();
    FERRY_CHECK(watcher_ == nullptr, "a resolver is started twice");
    watcher_ = &watcher;
    loop_.timers().Arm(timer_, loop_.now());
  }

  void ResolveAgain() override { loop_.AssertInLoop(); }

 private:
  // Further changes wake nobody until the file is read.
  void OnEvents(uint32_t) override {
    loop_.ChangeWatch(directory_->fd(), 0, *this);
    const transport::Instant settled = loop_.now() + options_.settle;
    if (!timer_.armed() || timer_.due() > settled) loop_.timers().Arm(timer_, settled);
  }

  // The watch comes first, so that no change falls between it and the reading.
  void Look() {
    if (directory_ && !directory_->TakeChanges()) StopWatching();
    if (directory_) {
      loop_.ChangeWatch(directory_->fd(), EPOLLIN, *this);
    } else {
      Watch();
    }
    loop_.timers().Arm(timer_,
                       loop_.now() + (directory_ ? options_.poll_interval : options_.missing_poll_interval));
    absl::StatusOr<std::string> text = transport::ReadFile(path_, kMaxFileBytes);
    // An error is told once, and so is a text.
    if (last_read_ && last_read_->status() == text.status() && (!text.ok() || **last_read_ == *text)) return;
    last_read_ = text;
    if (!text.ok()) return watcher_->OnServers(text.status());
    watcher_->OnServers(ParseServerFile(*text, path_));
  }

  void Watch() {
    absl::StatusOr<transport::DirectoryWatch> directory =
        transport::DirectoryWatch::Create(DirectoryOf(path_));
    // Reading the file fails too, and says more; or else it is read every now and then.
    if (!directory.ok()) return;
    directory_ = *std::move(directory);
    if (!loop_.Watch(directory_->fd(), EPOLLIN, *this).ok()) directory_.reset();
  }

  void StopWatching() {
    if (!directory_) return;
    loop_.Unwatch(directory_->fd(), *this);
    directory_.reset();
  }

  transport::EventLoop& loop_;
  const std::string path_;
  const FileResolverOptions options_;
  Watcher* watcher_ = nullptr;
  std::optional<transport::DirectoryWatch> directory_;
  std::optional<absl::StatusOr<std::string>> last_read_;
  transport::Timer timer_;
};

absl::Status CheckPositive(const char* name, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("FileResolverOptions::", name, " is ", absl::FormatDuration(value), ", must be positive"));
}

}  // namespace

absl::Status FileResolverOptions::Validate() const {
  absl::Status checked = CheckPositive("settle", settle);
  checked.Update(CheckPositive("poll_interval", poll_interval));
  checked.Update(CheckPositive("missing_poll_interval", missing_poll_interval));
  return checked;
}

std::unique_ptr<Resolver> NewFileResolver(const std::string& path, const FileResolverOptions& options,
                                          transport::EventLoop& loop) {
  return std::make_unique<FileResolver>(path, options, loop);
}

}  // namespace ferry
