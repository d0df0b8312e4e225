// What the servers of a fleet say of their health.
#include <memory>
#include <utility>

#include "ferry/rpc/fleet.h"

namespace ferry {

void FleetMember::WatchHealth(const HealthWatch::Options& options) {
  health_ = std::make_shared<HealthWatch>(options, endpoint_, [this] { fleet_.OnMemberHealth(*this); });
}

void FleetMember::FollowHealth(bool connected) {
  if (health_ == nullptr) return;
  if (connected) {
    health_->Start();
  } else {
    health_->Stop();
  }
}

// A server that says that it does not serve gets no calls, were it the last one: that is no guess from what
// became of calls, as an ejection is. So it does not count either among those of which a share has to remain.
void Fleet::OnMemberHealth(FleetMember& member) {
  const std::shared_ptr<Fleet> self = shared_from_this();
  if (!closed_.ok() || member.retired) return;
  const bool serves = member.health()->health() == HealthWatch::Health::kServing;
  if (!serves && !std::exchange(member.unwatched, true)) {
    outliers_.Remove(member.id());
    member.ejected = false;
    if (resolver_ != nullptr) resolver_->ResolveAgain();
  }
  if (serves && std::exchange(member.unwatched, false)) {
    outliers_.Add(member.id(), member.shared_load(), loop_.now(), /*ramp_up=*/HasOther(member));
    member.weight_factor = outliers_.weight_factor(member.id());
    sweep_wanted_ = true;
  }
  // The calls that are picked from now on know of it.
  Refresh();
  RefreshLater();
}

}  // namespace ferry
