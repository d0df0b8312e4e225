#include "ferry/rpc/balancing/outlier_detector.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry {

using transport::Instant;

namespace {

// In how many steps the weight grows.
constexpr int kRampSteps = 8;
constexpr absl::Duration kLeastStep = absl::Milliseconds(1);
constexpr double kJitter = 0.2;
constexpr int kMostDoublings = 30;

absl::Status CheckShare(const char* name, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", must be in [0, 1]"));
}

absl::Status CheckPositive(const char* name, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", absl::FormatDuration(value), ", must be over 0"));
}

}  // namespace

absl::Status OutlierDetector::Check(const Options& options) {
  for (const absl::Status& status :
       {CheckShare("max_failure_share", options.max_failure_share),
        CheckShare("max_ejected_share", options.max_ejected_share),
        CheckShare("first_factor", options.first_factor), CheckPositive("window", options.window),
        CheckPositive("sweep_interval", options.sweep_interval),
        CheckPositive("base_ejection", options.base_ejection),
        CheckPositive("forgive_after", options.forgive_after)}) {
    if (!status.ok()) return status;
  }
  if (options.max_ejection < options.base_ejection) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_ejection is ", absl::FormatDuration(options.max_ejection),
                     ", must be at least base_ejection, ", absl::FormatDuration(options.base_ejection)));
  }
  if (options.max_latency_factor != 0 && !(options.max_latency_factor > 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_latency_factor is ", options.max_latency_factor, ", must be 0 or over 1"));
  }
  if (options.ramp_time < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("ramp_time is ", absl::FormatDuration(options.ramp_time), ", must not be negative"));
  }
  return absl::OkStatus();
}

OutlierDetector::OutlierDetector(const Options& options)
    : options_(options), random_(options.seed != 0 ? options.seed : std::random_device()()) {}

// ---------------------------------------------------------------- Servers

void OutlierDetector::Add(uint64_t id, std::shared_ptr<ServerLoad> load, bool ramp_up) {
  Server& server = servers_[id];
  server.load = std::move(load);
  server.ramp_up = ramp_up;
}

void OutlierDetector::Remove(uint64_t id) {
  SetUsable(id, false, Instant());
  servers_.erase(id);
}

bool OutlierDetector::SetUsable(uint64_t id, bool usable, Instant now) {
  const auto found = servers_.find(id);
  if (found == servers_.end()) return false;
  Server& server = found->second;
  if (std::exchange(server.usable, usable) == usable) return false;
  if (usable) {
    ++usable_;
    BeginAnew(server, now, std::exchange(server.ramp_up, true));
    server.told_factor = server.factor;
    next_sweep_ = std::min(next_sweep_, NextLook(server, now));
  } else {
    --usable_;
    if (std::exchange(server.ejected, false)) --ejected_;
    server.factor = 1;
    server.told_factor = 1;
  }
  server.told_ejected = false;
  return true;
}

// Brings a server into use, and forgets what was counted.
void OutlierDetector::BeginAnew(Server& server, Instant now, bool ramp_up) {
  if (server.ejected) --ejected_;
  server.ejected = false;
  server.load->Forget();
  server.history.assign(1, {now, CountsOf(*server.load)});
  // Otherwise the ramp is over.
  server.ramps_since = ramp_up ? now : now + -options_.ramp_time;
  server.forgives_since = now;
  server.factor = FactorAt(server, now);
}

double OutlierDetector::FactorAt(const Server& server, Instant now) const {
  const absl::Duration since = now - server.ramps_since;
  if (since >= options_.ramp_time) return 1;
  const double step = std::floor(kRampSteps * absl::FDivDuration(since, options_.ramp_time)) / kRampSteps;
  return options_.first_factor + (1 - options_.first_factor) * step;
}

bool OutlierDetector::is_ejected(uint64_t id) const {
  const auto found = servers_.find(id);
  return found != servers_.end() && found->second.ejected;
}

double OutlierDetector::weight_factor(uint64_t id) const {
  const auto found = servers_.find(id);
  return found != servers_.end() ? found->second.factor : 1;
}

// ---------------------------------------------------------------- What was counted

OutlierDetector::Counts OutlierDetector::CountsOf(const ServerLoad& load) {
  return {load.successes(), load.failures(), load.time_of_successes()};
}

void OutlierDetector::Remember(Server& server, Instant now) {
  server.history.push_back({now, CountsOf(*server.load)});
  while (server.history.size() > 2 && now - server.history[1].at >= options_.window) {
    server.history.pop_front();
  }
}

OutlierDetector::Counts OutlierDetector::InWindow(const Server& server) const {
  const Counts& from = server.history.front().counts;
  const Counts& to = server.history.back().counts;
  return {to.successes - from.successes, to.failures - from.failures,
          to.time_of_successes - from.time_of_successes};
}

// ---------------------------------------------------------------- Sweeping

std::vector<OutlierDetector::Change> OutlierDetector::Sweep(Instant now) {
  for (auto& [id, server] : servers_) {
    if (server.ejected && now >= server.back_at) BeginAnew(server, now, /*ramp_up=*/true);
    if (server.ejected || !server.usable) continue;
    server.factor = FactorAt(server, now);
    if (server.times_ejected > 0 && now - server.forgives_since >= options_.forgive_after) {
      --server.times_ejected;
      server.forgives_since = now;
    }
  }
  for (Verdict& verdict : FindOutliers(now)) {
    if (ejected_ < MostEjected()) {
      Eject(verdict, now);
    } else {
      ++ejections_refused_;
    }
  }
  std::vector<Change> changes;
  for (auto& [id, server] : servers_) {
    if (server.ejected == server.told_ejected && server.factor == server.told_factor) continue;
    changes.push_back({id, server.ejected, server.factor, std::exchange(server.reason, "")});
    server.told_ejected = server.ejected;
    server.told_factor = server.factor;
  }
  Schedule(now);
  return changes;
}

std::vector<OutlierDetector::Verdict> OutlierDetector::FindOutliers(Instant now) {
  std::vector<Verdict> verdicts;
  for (auto& [id, server] : servers_) {
    if (server.ejected || !server.usable) continue;
    Remember(server, now);
    const uint32_t in_a_row = server.load->failures_in_a_row();
    if (HasFailedInARow(*server.load)) {
      verdicts.push_back(
          {&server, 0, static_cast<double>(in_a_row),
           absl::StrCat(in_a_row, " failures in a row, limit is ", options_.failures_in_a_row)});
      continue;
    }
    const Counts counts = InWindow(server);
    const uint64_t volume = counts.successes + counts.failures;
    if (volume < std::max(options_.min_volume, 1u)) continue;
    const double share = static_cast<double>(counts.failures) / static_cast<double>(volume);
    if (share <= options_.max_failure_share) continue;
    verdicts.push_back({&server, 1, share,
                        absl::StrCat(counts.failures, " of ", volume, " calls failed, limit is ",
                                     100 * options_.max_failure_share, " %")});
  }
  if (options_.max_latency_factor > 0) JudgeLatencies(verdicts);
  std::stable_sort(verdicts.begin(), verdicts.end(), [](const Verdict& a, const Verdict& b) {
    return a.kind != b.kind ? a.kind < b.kind : a.badness > b.badness;
  });
  return verdicts;
}

void OutlierDetector::JudgeLatencies(std::vector<Verdict>& verdicts) {
  struct Mean {
    Server* server;
    double seconds;
  };
  std::set<const Server*> judged;
  for (const Verdict& verdict : verdicts) judged.insert(verdict.server);
  std::vector<Mean> means;
  for (auto& [id, server] : servers_) {
    if (server.ejected || !server.usable || judged.contains(&server)) continue;
    const Counts counts = InWindow(server);
    if (counts.successes < std::max(options_.min_volume, 1u)) continue;
    means.push_back(
        {&server, absl::ToDoubleSeconds(counts.time_of_successes) / static_cast<double>(counts.successes)});
  }
  if (means.size() < 3) return;
  std::sort(means.begin(), means.end(), [](const Mean& a, const Mean& b) { return a.seconds < b.seconds; });
  for (size_t i = 0; i < means.size(); ++i) {
    // The lower median of the others.
    const size_t middle = (means.size() - 2) / 2;
    const double median = means[i <= middle ? middle + 1 : middle].seconds;
    const double limit =
        std::max(options_.max_latency_factor * median, absl::ToDoubleSeconds(options_.min_latency));
    if (means[i].seconds <= limit) continue;
    verdicts.push_back(
        {means[i].server, 2, means[i].seconds / limit,
         absl::StrCat("calls take ", absl::FormatDuration(absl::Seconds(means[i].seconds)),
                      " on the average, limit is ", absl::FormatDuration(absl::Seconds(limit)))});
  }
}

// Those that cannot be used are out of use already.
size_t OutlierDetector::MostEjected() const {
  if (usable_ == 0) return 0;
  const auto share = static_cast<size_t>(static_cast<double>(servers_.size()) * options_.max_ejected_share);
  const size_t unusable = servers_.size() - usable_;
  return std::min(share - std::min(share, unusable), usable_ - 1);
}

void OutlierDetector::Eject(Verdict& verdict, Instant now) {
  Server& server = *verdict.server;
  const double doubled = absl::ToDoubleSeconds(options_.base_ejection) *
                         std::exp2(std::min(server.times_ejected, kMostDoublings));
  const double bounded = std::min(doubled, absl::ToDoubleSeconds(options_.max_ejection));
  const double jitter = std::uniform_real_distribution<double>(1 - kJitter, 1 + kJitter)(random_);
  server.back_at = now + absl::Seconds(bounded * jitter);
  server.times_ejected = std::min(server.times_ejected + 1, kMostDoublings);
  server.ejected = true;
  server.reason = std::move(verdict.reason);
  ++ejected_;
}

// When there is something to do about one server.
Instant OutlierDetector::NextLook(const Server& server, Instant now) const {
  if (server.ejected) return std::min(server.back_at, now + options_.sweep_interval);
  if (server.factor == 1) return now + options_.sweep_interval;
  const absl::Duration step = std::max(options_.ramp_time / kRampSteps, kLeastStep);
  return now + std::min(step, options_.sweep_interval);
}

void OutlierDetector::Schedule(Instant now) {
  next_sweep_ = Instant::Infinite();
  for (const auto& [id, server] : servers_) {
    if (server.usable) next_sweep_ = std::min(next_sweep_, NextLook(server, now));
  }
}

}  // namespace ferry
