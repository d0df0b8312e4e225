// The calls of a fleet that wait for a server.
#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/fleet.h"

namespace ferry {

void Fleet::Park(ClientCall& call, const absl::Status& why) {
  // Also for the sake of those that come after one that cannot wait.
  WantConnections();
  if (absl::Status may_wait = CheckMayWait(call, why); !may_wait.ok()) {
    return Finish(call, std::move(may_wait));
  }
  call.routing->admitted = true;
  parked_.AddWaiting(call);
  ArmTimer();
}

// Has every member connect soon.
void Fleet::WantConnections() {
  if (std::exchange(hurried_, true)) return;
  for (const std::shared_ptr<FleetMember>& member : order_) member->endpoint().ConnectSoon();
}

// Whether there may soon be a server for calls that do not wait for ready.
bool Fleet::HasHope() const {
  if (!told_) return resolver_error_.ok();
  return std::any_of(order_.begin(), order_.end(),
                     [](const std::shared_ptr<FleetMember>& member) { return !member->failing(); });
}

// The call does not count among those that wait any more.
void Fleet::Unpark(ClientCall& call) {
  parked_bytes_.fetch_sub(std::exchange(call.routing->parked_bytes, 0), std::memory_order_relaxed);
}

// OK if there is hope for the call; otherwise how it ends.
absl::Status Fleet::CheckMayWait(const ClientCall& call, const absl::Status& why) const {
  const bool admitted = call.routing->admitted || call.routing->attempts > 0;
  if (!admitted && parked_.waiting() >= options_.endpoint.max_waiting_calls) {
    return absl::ResourceExhaustedError(absl::StrCat(parked_.waiting(), " calls wait for a server of ",
                                                     options_.name, ", limit is ",
                                                     options_.endpoint.max_waiting_calls));
  }
  return call.wait_for_ready || HasHope() ? absl::OkStatus() : why;
}

// Sends what waits for a server, now that there may be one.
void Fleet::Pump() {
  if (parked_.waiting() == 0) return;
  if (std::none_of(order_.begin(), order_.end(), [](const auto& member) { return member->ready(); })) {
    WantConnections();
    if (HasHope()) return;
    const absl::Status why = WhyNone();
    for (ClientCall* call : parked_.TakeWaitingIf([](const ClientCall* c) { return !c->wait_for_ready; })) {
      Finish(*call, why);
    }
    return;
  }
  // Each is tried once: those that go on waiting line up behind.
  for (size_t left = parked_.waiting(); left > 0; --left) {
    ClientCall* const call = parked_.TakeWaiting();
    if (call == nullptr) return;
    SendAgain(*call, WhyNone());
  }
}

}  // namespace ferry
