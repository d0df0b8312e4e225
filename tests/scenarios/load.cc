#include "tests/scenarios/load.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace ferry::scenarios {
namespace {

// Longer than anything here takes: what hangs fails.
constexpr absl::Duration kTimeout = absl::Seconds(30);

}  // namespace

Load::Load(Channel& channel, const LoadOptions& options)
    : stub_(channel),
      options_(options),
      interval_(absl::Seconds(1) / options.calls_per_second),
      thread_([this] { Run(); }) {}

Load::~Load() { Stop(); }

void Load::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
  absl::MutexLock lock(&mutex_);
  const auto ended = [this] { return ended_.load() == started_.load(); };
  mutex_.Await(absl::Condition(&ended));
}

absl::Duration Load::Now() const { return absl::Now() - options_.beginning; }

void Load::Run() {
  for (absl::Duration due; !stopping_.load(); due += interval_) {
    // In groups, as a thread that sleeps wakes up late.
    if (const absl::Duration early = due - Now(); early > absl::ZeroDuration()) absl::SleepFor(early);
    StartCall(due);
  }
}

void Load::StartCall(absl::Duration due) {
  started_.fetch_add(1);
  ProbeRequest request;
  request.set_id(started_.load());
  const auto done = [this, due, sent = Now()](absl::StatusOr<ProbeReply> reply) {
    Result result{.due = due, .sent = sent, .took = Now() - due};
    if (reply.ok()) {
      result.server = std::move(*reply->mutable_server());
      result.attempt = reply->attempt();
    } else {
      result.status = reply.status();
    }
    OnEnd(std::move(result));
  };
  if (options_.method == LoadOptions::Method::kAsk) {
    stub_.Ask(request, {.timeout = kTimeout}, done);
  } else {
    stub_.Change(request, {.timeout = kTimeout}, done);
  }
}

void Load::OnEnd(Result result) {
  if (!result.status.ok()) failed_.fetch_add(1);
  absl::MutexLock lock(&mutex_);
  if (options_.keep_all || !result.status.ok()) results_.push_back(std::move(result));
  ended_.fetch_add(1);
}

std::vector<Result> Load::results(absl::Duration from) const {
  absl::MutexLock lock(&mutex_);
  auto first = results_.end();
  while (first != results_.begin() && std::prev(first)->due + std::prev(first)->took >= from) --first;
  return {first, results_.end()};
}

absl::Status Load::first_error() const {
  absl::MutexLock lock(&mutex_);
  const auto first = std::find_if(results_.begin(), results_.end(),
                                  [](const Result& result) { return !result.status.ok(); });
  return first == results_.end() ? absl::OkStatus() : first->status;
}

}  // namespace ferry::scenarios
