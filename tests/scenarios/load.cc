#include "tests/scenarios/load.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"

namespace ferry::scenarios {
namespace {

// Longer than anything here takes: what hangs fails.
constexpr absl::Duration kTimeout = absl::Seconds(30);

}  // namespace

Load::Load(Channel& channel, Method method, int calls_per_second)
    : stub_(channel),
      method_(method),
      interval_(absl::Seconds(1) / calls_per_second),
      thread_([this] { Run(); }) {}

Load::~Load() { Stop(); }

void Load::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mutex_);
  const auto ended = [this]()
                         ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return results_.size() == started_.load(); };
  mutex_.Await(absl::Condition(&ended));
}

absl::Duration Load::Now() const { return absl::Now() - beginning_; }

void Load::Run() {
  for (absl::Duration due; !stopping_.load(); due += interval_) {
    // In groups, as a thread that sleeps wakes up late.
    if (const absl::Duration early = due - Now(); early > absl::ZeroDuration()) absl::SleepFor(early);
    StartCall(due);
  }
}

void Load::StartCall(absl::Duration began) {
  started_.fetch_add(1);
  ProbeRequest request;
  request.set_id(started_.load());
  const auto done = [this, began](absl::StatusOr<ProbeReply> reply) {
    Result result{.began = began, .took = Now() - began};
    if (reply.ok()) {
      result.server = std::move(*reply->mutable_server());
    } else {
      result.status = reply.status();
      failed_.fetch_add(1);
    }
    absl::MutexLock lock(&mutex_);
    results_.push_back(std::move(result));
    ended_.fetch_add(1);
  };
  if (method_ == Method::kAsk) {
    stub_.Ask(request, {.timeout = kTimeout}, done);
  } else {
    stub_.Change(request, {.timeout = kTimeout}, done);
  }
}

std::vector<Result> Load::results() const {
  absl::MutexLock lock(&mutex_);
  return results_;
}

double Load::ShareOf(std::string_view server, absl::Duration from, absl::Duration to) const {
  absl::MutexLock lock(&mutex_);
  size_t all = 0;
  size_t own = 0;
  for (const Result& result : results_) {
    if (result.began < from || result.began >= to) continue;
    ++all;
    own += result.server == server;
  }
  return all == 0 ? 0 : static_cast<double>(own) / static_cast<double>(all);
}

absl::Duration Load::P99(absl::Duration from, absl::Duration to) const {
  std::vector<absl::Duration> times;
  {
    absl::MutexLock lock(&mutex_);
    times.reserve(results_.size());
    for (const Result& result : results_) {
      if (result.began >= from && result.began < to) times.push_back(result.took);
    }
  }
  if (times.empty()) return absl::ZeroDuration();
  const size_t rank = times.size() * 99 / 100;
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(rank), times.end());
  return times[rank];
}

}  // namespace ferry::scenarios
