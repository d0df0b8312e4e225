#include "ferry/rpc/balancing/balancer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/balancing/pickers.h"

namespace ferry {
namespace {

using Group = std::vector<GroupServer>;

constexpr double kRounding = 1e-12;

// A group of servers and the part of the calls that it gets.
struct Part {
  Group group;
  double share;
};

// The servers of one priority: those of the own locality, and the others.
struct Priority {
  double weight = 0;
  double usable_weight = 0;
  double near_weight = 0;
  std::set<absl::string_view> localities;
  Group near;
  Group far;
};

double EffectiveWeight(const Candidate& candidate) {
  const double weight = std::clamp<uint32_t>(candidate.weight, 1, Candidate::kMaxWeight);
  // Written so that a factor which is no number counts as the least.
  const bool valid = candidate.weight_factor > Candidate::kMinFactor;
  return weight * (valid ? std::min(candidate.weight_factor, 1.0) : Candidate::kMinFactor);
}

class NoPicker final : public Picker {
 public:
  std::optional<size_t> Pick(const PickArguments& /*arguments*/) const override { return std::nullopt; }
};

// Divides the calls among groups, and lets the policy choose within them.
class GroupedPicker final : public Picker {
 public:
  // Picks below `until`, of fractions in [0, 1), go to the picker.
  struct Entry {
    std::unique_ptr<Picker> picker;
    double until;
  };

  explicit GroupedPicker(std::vector<Entry> entries) : entries_(std::move(entries)) {}

  std::optional<size_t> Pick(const PickArguments& arguments) const override {
    // A key always goes to the same group. Scattered with a salt, as the group uses the same number again.
    const double at = Fraction(Scatter(arguments.hash_key.value_or(arguments.random) ^ kSalt));
    size_t begin = 0;
    while (begin + 1 < entries_.size() && at >= entries_[begin].until) ++begin;
    if (std::optional<size_t> index = entries_[begin].picker->Pick(arguments)) return index;
    // All of the group are excluded.
    for (const Entry& entry : entries_) {
      if (std::optional<size_t> index = entry.picker->Pick(arguments)) return index;
    }
    return std::nullopt;
  }

 private:
  static constexpr uint64_t kSalt = 0x6a09e667f3bcc908;

  const std::vector<Entry> entries_;
};

class PolicyBalancer final : public Balancer {
 public:
  PolicyBalancer(const BalancingOptions& options, uint64_t seed)
      : options_(options), random_(seed != 0 ? seed : ThreadRandom()) {}

  std::shared_ptr<const Picker> MakePicker(absl::Span<const Candidate> candidates) override {
    std::vector<Part> parts = Divide(candidates);
    if (parts.empty()) return std::make_shared<NoPicker>();
    if (parts.size() == 1) return MakePolicy(parts.front().group);
    std::vector<GroupedPicker::Entry> entries;
    entries.reserve(parts.size());
    double until = 0;
    double left = 1;
    for (const Part& part : parts) {
      until += part.share;
      left -= part.share;
      // Against rounding: after the last group that gets calls there is nothing left.
      entries.push_back({MakePolicy(part.group), left > kRounding ? until : 1});
    }
    return std::make_shared<GroupedPicker>(std::move(entries));
  }

 private:
  std::unique_ptr<Picker> MakePolicy(const Group& group) {
    switch (options_.policy) {
      case BalancingPolicy::kPickFirst:
        return MakePickFirst(group);
      case BalancingPolicy::kRoundRobin:
        random_ = Scatter(random_);
        return MakeRoundRobin(group, random_);
      case BalancingPolicy::kConsistentHash:
        return MakeConsistentHash(group, options_);
      case BalancingPolicy::kLeastLoaded:
        break;
    }
    return MakeLeastLoaded(group);
  }

  std::map<uint32_t, Priority> ByPriority(absl::Span<const Candidate> candidates) const {
    std::map<uint32_t, Priority> priorities;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& candidate = candidates[i];
      Priority& priority = priorities[candidate.priority];
      const double weight = EffectiveWeight(candidate);
      priority.weight += weight;
      priority.localities.insert(candidate.locality);
      if (!candidate.usable) continue;
      priority.usable_weight += weight;
      const bool is_near = options_.locality.empty() || candidate.locality == options_.locality;
      if (is_near) priority.near_weight += weight;
      (is_near ? priority.near : priority.far).push_back({i, candidate.name, weight, candidate.load});
    }
    return priorities;
  }

  // The groups, each with its share of the calls: the shares add up to 1. Those without a share are for calls
  // that have been tried everywhere else.
  std::vector<Part> Divide(absl::Span<const Candidate> candidates) const {
    std::vector<Part> parts;
    double left = 1;
    double sum = 0;
    for (auto& [number, priority] : ByPriority(candidates)) {
      if (priority.usable_weight == 0) continue;
      const double able = priority.usable_weight / (priority.weight * options_.enough_of_priority);
      const double taken = left > kRounding ? std::min(left, able) : 0;
      left -= taken;
      sum += taken;
      const double near = NearShare(priority);
      if (!priority.near.empty()) parts.push_back({std::move(priority.near), taken * near});
      if (!priority.far.empty()) parts.push_back({std::move(priority.far), taken * (1 - near)});
    }
    // With too few of all priorities usable, all share what there is.
    for (Part& part : parts) part.share /= sum;
    return parts;
  }

  double NearShare(const Priority& priority) const {
    if (priority.near.empty()) return 0;
    if (priority.far.empty()) return 1;
    const double callers = options_.share_of_callers > 0
                               ? options_.share_of_callers
                               : 1 / static_cast<double>(priority.localities.size());
    return std::min(1.0, priority.near_weight / priority.usable_weight / callers);
  }

  const BalancingOptions options_;
  uint64_t random_;
};

absl::Status Check(const BalancingOptions& options) {
  if (!(options.load_bound > 1)) {
    return absl::InvalidArgumentError(absl::StrCat("load_bound is ", options.load_bound, ", must be over 1"));
  }
  if (options.load_bound_floor < 1) {
    return absl::InvalidArgumentError("load_bound_floor is 0, must be at least 1");
  }
  if (!(options.enough_of_priority > 0 && options.enough_of_priority <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("enough_of_priority is ", options.enough_of_priority, ", must be over 0 and at most 1"));
  }
  if (!(options.share_of_callers >= 0 && options.share_of_callers <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("share_of_callers is ", options.share_of_callers, ", must be in [0, 1]"));
  }
  if (options.share_of_callers > 0 && options.locality.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("share_of_callers is ", options.share_of_callers, ", but locality is empty"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Balancer>> Balancer::Create(const BalancingOptions& options, uint64_t seed) {
  if (absl::Status status = Check(options); !status.ok()) return status;
  return std::make_unique<PolicyBalancer>(options, seed);
}

}  // namespace ferry
