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
// became of calls, as an ejection is.
void Fleet::OnMemberHealth(FleetMember& member) {
  const std::shared_ptr<Fleet> self = shared_from_this();
  if (!closed_.ok() || member.retired) return;
  if (FollowUse(member) && !member.ready() && resolver_ != nullptr) resolver_->ResolveAgain();
  // The calls that are picked from now on know of it.
  Refresh();
  RefreshLater();
}

}  // namespace ferry
