// The messages of a stream between their arrival and their reader.
#ifndef FERRY_RPC_MESSAGE_QUEUE_H_
#define FERRY_RPC_MESSAGE_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/budget.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A MessageQueue holds the messages of one stream that have arrived whole and were not read yet, and the
// fragments of the one that has not. It says what the sender may be granted anew (PROTOCOL.md section 11):
// what has been read; and, while nothing waits to be read, what has arrived of a message longer than the
// window.
//
// Append and End belong to the connection's loop, Take to one reader at a time; Thread-safe otherwise.
class MessageQueue {
 public:
  // Run once, with nothing locked, when there is something for the reader.
  using Waiter = absl::AnyInvocable<void()>;

  enum class Taken {
    kMessage,
    kNothing,  // so far
    kEnd,      // no more messages will come
  };

  // `window` is what the sender was granted at first, in bytes; what goes beyond `max_message` ends the call.
  MessageQueue(uint32_t window, uint64_t max_message) : window_(window), max_message_(max_message) {}
  ~MessageQueue();
  MessageQueue(const MessageQueue&) = delete;
  MessageQueue& operator=(const MessageQueue&) = delete;

  // A part of a message, as one frame brings it.
  struct Part {
    absl::string_view bytes;
    // Of the whole message, if this begins one that goes on.
    uint64_t message_length = 0;
    // The message goes on in the next frame.
    bool more = false;
  };

  // Appends what a frame has brought; `cost` is what that takes from the window, 0 if it is not counted. What
  // is held is taken from `budget`. An error ends the call: RESOURCE_EXHAUSTED for a message over the limit
  // or the budget, INTERNAL for fragments that do not add up. `*credit` is then to be granted, unless it is
  // 0.
  absl::Status Append(const Part& part, size_t cost, const std::shared_ptr<Budget>& budget, size_t* credit)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether the sender has sent more than it was granted.
  bool overflowed() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a message has begun and goes on.
  bool in_message() const ABSL_LOCKS_EXCLUDED(mutex_);

  // No more messages come. One that is not whole is dropped.
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes the next message: its bytes are valid until the next Take or Discard.
  Taken Take(absl::string_view* bytes, size_t* credit) ABSL_LOCKS_EXCLUDED(mutex_);

  // Keeps `waiter` until Take would answer other than kNothing. False, and it is not kept, if it would now.
  bool Await(Waiter& waiter) ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops what is there, and whatever comes: nobody reads any more. Frees the memory, but for what the reader
  // was given last. Returns what is to be granted.
  size_t Discard() ABSL_LOCKS_EXCLUDED(mutex_);

  // Bytes held. For tests.
  size_t held() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Begin(const Part& part, const std::shared_ptr<Budget>& budget)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropPartial() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Refill() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool all_read() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return whole_ == 0 && read_ == readable_; }
  size_t TakeCredit(size_t at_least) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveBack(size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint32_t window_;
  const uint64_t max_message_;

  mutable transport::Mutex mutex_;
  // Messages, each behind its length: whole ones up to whole_, then what has come of the next.
  std::string incoming_ ABSL_GUARDED_BY(mutex_);
  size_t whole_ ABSL_GUARDED_BY(mutex_) = 0;
  bool in_message_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t message_left_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whole messages that the reader is at, from read_ to readable_. Its bytes are the reader's.
  std::string reading_ ABSL_GUARDED_BY(mutex_);
  size_t read_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t readable_ ABSL_GUARDED_BY(mutex_) = 0;

  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool discarding_ ABSL_GUARDED_BY(mutex_) = false;
  // Of what the sender has used of its window: what is not to be granted anew yet, and what is.
  size_t unread_cost_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t credit_ ABSL_GUARDED_BY(mutex_) = 0;
  // Set by the first Append. What is held of it.
  std::shared_ptr<Budget> budget_ ABSL_GUARDED_BY(mutex_);
  size_t charged_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t partial_charge_ ABSL_GUARDED_BY(mutex_) = 0;
  Waiter waiter_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ferry

#endif  // FERRY_RPC_MESSAGE_QUEUE_H_
