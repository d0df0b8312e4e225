// Calls that wait for a server, or for a connection to one.
#ifndef FERRY_RPC_PARKED_CALLS_H_
#define FERRY_RPC_PARKED_CALLS_H_

#include <algorithm>
#include <cstddef>
#include <deque>
#include <vector>

#include "ferry/rpc/call_deadlines.h"
#include "ferry/rpc/client_call.h"
#include "ferry/transport/clock.h"

namespace ferry {

// ParkedCalls keeps calls that wait for a server, in their order, and calls that wait to be sent again at
// some time, with the deadlines of both.
//
// Thread-compatible. It must outlive the calls in it.
class ParkedCalls {
 public:
  void AddWaiting(ClientCall& call) {
    waiting_.push_back(&call);
    deadlines_.Add(call);
  }

  // The same, but before all others.
  void AddWaitingFirst(ClientCall& call) {
    waiting_.push_front(&call);
    deadlines_.Add(call);
  }

  // REQUIRES: `due` is before the call's deadline.
  void AddDelayed(ClientCall& call, transport::Instant due) {
    const auto later =
        std::upper_bound(delayed_.begin(), delayed_.end(), due,
                         [](transport::Instant when, const Delayed& d) { return when < d.due; });
    delayed_.insert(later, {due, &call});
    deadlines_.Add(call);
  }

  // Takes a call out; false if it is not there. O(n).
  bool Take(const ClientCall& call) {
    const auto waiting = std::find(waiting_.begin(), waiting_.end(), &call);
    if (waiting != waiting_.end()) {
      deadlines_.Remove(**waiting);
      waiting_.erase(waiting);
      return true;
    }
    const auto delayed =
        std::find_if(delayed_.begin(), delayed_.end(), [&](const Delayed& d) { return d.call == &call; });
    if (delayed == delayed_.end()) return false;
    deadlines_.Remove(*delayed->call);
    delayed_.erase(delayed);
    return true;
  }

  // Takes out the first that waits for a server; nullptr if none does.
  ClientCall* TakeWaiting() {
    if (waiting_.empty()) return nullptr;
    ClientCall* const call = waiting_.front();
    waiting_.pop_front();
    deadlines_.Remove(*call);
    return call;
  }

  // Takes out one whose time to be sent again has come; nullptr if there is none.
  ClientCall* TakeDue(transport::Instant now) {
    if (delayed_.empty() || delayed_.front().due > now) return nullptr;
    ClientCall* const call = delayed_.front().call;
    delayed_.pop_front();
    deadlines_.Remove(*call);
    return call;
  }

  // Takes out one whose deadline has passed; nullptr if there is none.
  ClientCall* TakeExpired(transport::Instant now) {
    ClientCall* const call = deadlines_.TakeDue(now);
    if (call != nullptr) Take(*call);
    return call;
  }

  // Takes out those waiting for a server that `f` is true for.
  template <typename F>
  std::vector<ClientCall*> TakeWaitingIf(F&& f) {
    std::vector<ClientCall*> taken;
    std::deque<ClientCall*> left;
    for (ClientCall* call : waiting_) {
      if (f(call)) {
        deadlines_.Remove(*call);
        taken.push_back(call);
      } else {
        left.push_back(call);
      }
    }
    waiting_.swap(left);
    return taken;
  }

  std::vector<ClientCall*> TakeAll() {
    std::vector<ClientCall*> all(waiting_.begin(), waiting_.end());
    for (const Delayed& delayed : delayed_) all.push_back(delayed.call);
    waiting_.clear();
    delayed_.clear();
    for (ClientCall* call : all) deadlines_.Remove(*call);
    return all;
  }

  size_t waiting() const { return waiting_.size(); }
  size_t size() const { return waiting_.size() + delayed_.size(); }

  // When there is something to do next.
  transport::Instant next_due() const {
    return delayed_.empty() ? deadlines_.wake_at() : std::min(deadlines_.wake_at(), delayed_.front().due);
  }

 private:
  struct Delayed {
    transport::Instant due;
    ClientCall* call;
  };

  std::deque<ClientCall*> waiting_;
  // By the time at which they are due.
  std::deque<Delayed> delayed_;
  CallDeadlines deadlines_;
};

}  // namespace ferry

#endif  // FERRY_RPC_PARKED_CALLS_H_
