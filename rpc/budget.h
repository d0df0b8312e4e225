// How many bytes may be held at once.
#ifndef FERRY_RPC_BUDGET_H_
#define FERRY_RPC_BUDGET_H_

#include <atomic>
#include <cstddef>

#include "absl/status/status.h"

namespace ferry {

// A Budget is an amount of bytes that holders take from and give back to. A budget may be part of a larger
// one, from which it takes too.
//
// Thread-safe. The larger budget must outlive it.
class Budget {
 public:
  explicit Budget(size_t limit, Budget* part_of = nullptr) : limit_(limit), part_of_(part_of) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Takes `bytes`, or nothing and returns false if fewer are left.
  bool Take(size_t bytes);
  void GiveBack(size_t bytes);

  // What is wrong when `bytes` cannot be taken: RESOURCE_EXHAUSTED, with the values and the limit.
  absl::Status Exhausted(size_t bytes) const;

  size_t used() const { return used_.load(std::memory_order_relaxed); }
  size_t limit() const { return limit_; }

 private:
  const size_t limit_;
  Budget* const part_of_;
  // A count that orders nothing else.
  std::atomic<size_t> used_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_BUDGET_H_
