// How much work is under way.
#ifndef FERRY_RPC_WORK_COUNT_H_
#define FERRY_RPC_WORK_COUNT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace ferry {

// A WorkCount counts pieces of work that are under way, for somebody who has to wait for their end.
//
// Thread-safe.
class WorkCount {
 public:
  // While a Piece lives, it is counted.
  class Piece {
   public:
    explicit Piece(std::shared_ptr<WorkCount> count) : count_(std::move(count)) {
      count_->pieces_.fetch_add(1, std::memory_order_relaxed);
    }
    // Releases what the piece did to who waits.
    ~Piece() {
      if (count_->pieces_.fetch_sub(1, std::memory_order_acq_rel) == 1) count_->pieces_.notify_all();
    }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;

   private:
    const std::shared_ptr<WorkCount> count_;
  };

  // Waits until there are none. REQUIRES: no first one begins any more.
  void AwaitNone() const {
    for (;;) {
      const int64_t pieces = pieces_.load(std::memory_order_acquire);
      if (pieces == 0) return;
      pieces_.wait(pieces, std::memory_order_acquire);
    }
  }

 private:
  std::atomic<int64_t> pieces_{0};
};

}  // namespace ferry

#endif  // FERRY_RPC_WORK_COUNT_H_
