#include "tests/scenarios/results.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/call_failure.h"

namespace ferry::scenarios {
namespace {

// REQUIRES: the call ended after the loss had begun, and was made before its end.
bool HasGoneTo(const Loss& loss, const Result& result) {
  // It has answered some just before it was lost.
  if (result.status.ok())
    return result.attempt > 1 || (result.server == loss.server && result.sent >= loss.from);
  const std::optional<CallFailure> failure = FailureOf(result.status);
  if (!failure.has_value()) return false;
  return failure->peer() == loss.address ||
         std::any_of(failure->attempts().begin(), failure->attempts().end(),
                     [&](const CallFailure::Attempt& attempt) { return attempt.peer() == loss.address; });
}

bool Excuses(const Loss& loss, const Result& failed) {
  const bool in_flight = failed.sent <= loss.from + loss.notice && failed.due + failed.took >= loss.from;
  const std::optional<CallFailure> failure = FailureOf(failed.status);
  return in_flight && failure.has_value() && failure->peer() == loss.address &&
         failure->execution() == CallFailure::MAYBE_EXECUTED;
}

}  // namespace

absl::Duration ForeverIfToTheEnd(absl::Duration last, const Loss& loss) {
  return last > (loss.to - loss.from) * 0.95 ? absl::InfiniteDuration() : last;
}

Astray SentToLost(const std::vector<Result>& results, const Loss& loss) {
  Astray astray;
  for (const Result& result : results) {
    const bool during = result.due + result.took >= loss.from && result.sent < loss.to;
    if (!during || !HasGoneTo(loss, result)) continue;
    ++astray.calls;
    astray.last = std::max(astray.last, result.sent - loss.from);
  }
  astray.last = ForeverIfToTheEnd(astray.last, loss);
  return astray;
}

size_t UnexcusedFailures(const std::vector<Result>& results, const std::vector<Loss>& losses) {
  return static_cast<size_t>(std::count_if(results.begin(), results.end(), [&](const Result& result) {
    return !result.status.ok() && std::none_of(losses.begin(), losses.end(),
                                               [&](const Loss& loss) { return Excuses(loss, result); });
  }));
}

double ShareOf(const std::vector<Result>& results, std::string_view server, absl::Duration from,
               absl::Duration to) {
  size_t all = 0;
  size_t own = 0;
  for (const Result& result : results) {
    if (result.sent < from || result.sent >= to) continue;
    ++all;
    own += result.server == server;
  }
  return all == 0 ? 0 : static_cast<double>(own) / static_cast<double>(all);
}

bool IsFairShare(double share, int servers) { return share * servers >= 0.8; }

absl::Duration P99(const std::vector<Result>& results, absl::Duration from, absl::Duration to) {
  std::vector<absl::Duration> times;
  times.reserve(results.size());
  for (const Result& result : results) {
    if (result.due >= from && result.due < to) times.push_back(result.took);
  }
  if (times.empty()) return absl::InfiniteDuration();
  const size_t rank = times.size() * 99 / 100;
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(rank), times.end());
  return times[rank];
}

absl::Duration MedianP99(const std::vector<Result>& results, absl::Duration from, absl::Duration to) {
  std::vector<absl::Duration> seconds;
  for (; from + absl::Seconds(1) <= to; from += absl::Seconds(1)) {
    seconds.push_back(P99(results, from, from + absl::Seconds(1)));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds.empty() ? absl::InfiniteDuration() : seconds[seconds.size() / 2];
}

bool IsWithinTwice(absl::Duration p99, absl::Duration other) {
  return other != absl::InfiniteDuration() && p99 <= 2 * other;
}

size_t MostWithin(std::vector<absl::Duration> times, absl::Duration window) {
  std::sort(times.begin(), times.end());
  size_t most = 0;
  for (size_t first = 0, last = 0; last < times.size(); ++last) {
    while (times[last] - times[first] > window) ++first;
    most = std::max(most, last - first + 1);
  }
  return most;
}

void SteadyNumber::Add(int64_t seen) {
  if (looks_++ == 0) first_ = least_ = most_ = seen;
  least_ = std::min(least_, seen);
  most_ = std::max(most_, seen);
}

std::string SteadyNumber::seen() const {
  if (looks_ == 0) return "nobody has looked";
  return least_ == most_ ? absl::StrCat(least_) : absl::StrCat(least_, " to ", most_);
}

}  // namespace ferry::scenarios
