// A message that arrives in fragments.
#ifndef FERRY_RPC_MESSAGE_ASSEMBLY_H_
#define FERRY_RPC_MESSAGE_ASSEMBLY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/budget.h"
#include "ferry/transport/buffer_pool.h"

namespace ferry {

// A MessageAssembly puts the fragments of one message together (PROTOCOL.md section 10). The whole length is
// known from the first fragment: it is taken from the budget and from the pool once.
//
// Thread-compatible. Destroying or resetting it gives the bytes back to the budget, which must still exist.
class MessageAssembly {
 public:
  MessageAssembly() = default;
  ~MessageAssembly() { Reset(); }
  MessageAssembly(const MessageAssembly&) = delete;
  MessageAssembly& operator=(const MessageAssembly&) = delete;

  // Begins a message of `total` bytes, with memory of `blocks`. RESOURCE_EXHAUSTED if that is more than
  // `max_message` or than `budget` has left. REQUIRES: not active().
  absl::Status Begin(uint64_t total, uint64_t max_message, Budget& budget, transport::BlockCache& blocks);

  // Appends a fragment. INTERNAL if there are more bytes than Begin was told of. REQUIRES: active().
  absl::Status Append(absl::string_view fragment);

  // What is to be granted anew of the window, if that is `at_least`, and 0 otherwise, after a frame that took
  // `cost` from it.
  size_t TakeCredit(size_t cost, size_t at_least) {
    credit_ += cost;
    return credit_ >= at_least ? std::exchange(credit_, 0) : 0;
  }

  // What is wrong with a message whose last fragment has come, but that is not whole.
  absl::Status TooShort() const;

  bool active() const { return budget_ != nullptr; }
  bool whole() const { return have_ == total_; }
  size_t total() const { return total_; }
  absl::string_view bytes() const { return {block_ ? block_.data() : nullptr, have_}; }

  // Gives the memory back, for the message is parsed; the budget goes on counting the message.
  void FreeBytes() {
    block_ = transport::Block();
    have_ = 0;
  }
  // The message's memory, which is then the caller's affair: the budget has its bytes back, and this is as
  // after Reset. REQUIRES: whole(), and total() > 0.
  transport::Block Take();
  void Reset();

 private:
  Budget* budget_ = nullptr;
  transport::Block block_;
  size_t have_ = 0;
  size_t total_ = 0;
  size_t credit_ = 0;
};

}  // namespace ferry

#endif  // FERRY_RPC_MESSAGE_ASSEMBLY_H_
