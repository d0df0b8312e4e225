#include "ferry/rpc/message_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/little_endian.h"

namespace ferry {
namespace {

using transport::MutexLock;

// In front of each message.
using Length = uint32_t;

// A buffer that is larger is not kept when it is empty.
constexpr size_t kMaxKept = 64 * 1024;

// What a message has taken from the window.
size_t Cost(size_t message) {
  const size_t frames = std::max<size_t>(1, (message + kMaxFragment - 1) / kMaxFragment);
  return message + frames * transport::kFrameHeaderSize;
}

absl::Status DoNotAddUp(uint64_t have, uint64_t length) {
  return absl::InternalError(absl::StrCat("fragments have ", have, " bytes, message_length is ", length));
}

}  // namespace

MessageQueue::~MessageQueue() { Discard(); }

absl::Status MessageQueue::Append(const Part& part, size_t cost, const std::shared_ptr<Budget>& budget,
                                  size_t* credit) {
  *credit = 0;
  Waiter waiter;
  {
    MutexLock lock(mutex_);
    unread_cost_ += cost;
    if (!discarding_ && !ended_) {
      if (!in_message_) {
        if (absl::Status begun = Begin(part, budget); !begun.ok()) return begun;
      }
      if (part.bytes.size() > message_left_ || (!part.more && part.bytes.size() < message_left_)) {
        const uint64_t length = incoming_.size() - whole_ - sizeof(Length) + message_left_;
        return DoNotAddUp(length - message_left_ + part.bytes.size(), length);
      }
      incoming_.append(part.bytes.data(), part.bytes.size());
      message_left_ -= part.bytes.size();
      if (!part.more) EndMessage();
      if (whole_ > 0) waiter = std::exchange(waiter_, nullptr);
    }
    if (discarding_ || ended_ || all_read()) credit_ += std::exchange(unread_cost_, 0);
    *credit = TakeCredit(window_ / 2);
  }
  if (waiter != nullptr) waiter();
  return absl::OkStatus();
}

// Makes room for a message.
absl::Status MessageQueue::Begin(const Part& part, const std::shared_ptr<Budget>& budget) {
  const uint64_t length = part.more ? part.message_length : part.bytes.size();
  if (length > max_message_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("message is ", length, " bytes, limit is ", max_message_));
  }
  const size_t charge = sizeof(Length) + length;
  if (!budget->Take(charge)) return budget->Exhausted(length);
  budget_ = budget;
  charged_ += charge;
  partial_charge_ = charge;
  in_message_ = true;
  message_left_ = length;
  char bytes[sizeof(Length)];
  transport::StoreLittleEndian(static_cast<Length>(length), bytes);
  // Not initialised: pages that the peer never fills cost nothing.
  if (part.more) incoming_.reserve(incoming_.size() + charge);
  incoming_.append(bytes, sizeof(bytes));
  return absl::OkStatus();
}

void MessageQueue::EndMessage() {
  in_message_ = false;
  partial_charge_ = 0;
  whole_ = incoming_.size();
}

bool MessageQueue::overflowed() const {
  MutexLock lock(mutex_);
  // The peer may not have read yet that we grant less than the default ([P11.3]).
  return unread_cost_ + credit_ > std::max(window_, WireSettings().initial_stream_window);
}

bool MessageQueue::in_message() const {
  MutexLock lock(mutex_);
  return in_message_;
}

void MessageQueue::End() {
  Waiter waiter;
  {
    MutexLock lock(mutex_);
    ended_ = true;
    DropPartial();
    waiter = std::exchange(waiter_, nullptr);
  }
  if (waiter != nullptr) waiter();
}

void MessageQueue::DropPartial() {
  if (!std::exchange(in_message_, false)) return;
  incoming_.resize(whole_);
  if (incoming_.empty()) incoming_.shrink_to_fit();
  GiveBack(std::exchange(partial_charge_, 0));
}

MessageQueue::Taken MessageQueue::Take(absl::string_view* bytes, size_t* credit) {
  *credit = 0;
  MutexLock lock(mutex_);
  if (read_ == readable_ && !Refill()) return ended_ || discarding_ ? Taken::kEnd : Taken::kNothing;
  const Length length = transport::LoadLittleEndian<Length>(reading_.data() + read_);
  *bytes = absl::string_view(reading_.data() + read_ + sizeof(Length), length);
  read_ += sizeof(Length) + length;
  GiveBack(sizeof(Length) + length);
  // What has come of a message behind it need not be read to be granted anew.
  const size_t cost = all_read() ? unread_cost_ : std::min(unread_cost_, Cost(length));
  unread_cost_ -= cost;
  credit_ += cost;
  // A sender that will send no more needs no more.
  if (!ended_) *credit = TakeCredit(window_ / 2);
  return Taken::kMessage;
}

// Gives the reader the whole messages that have come; false if there are none. The bytes that it was given
// before are gone.
bool MessageQueue::Refill() {
  if (reading_.capacity() > kMaxKept) {
    std::string().swap(reading_);
  } else {
    reading_.clear();
  }
  read_ = readable_ = 0;
  if (whole_ == 0) return false;
  reading_.swap(incoming_);
  readable_ = std::exchange(whole_, 0);
  if (reading_.size() > readable_) {
    if (message_left_ > 0) incoming_.reserve(reading_.size() - readable_ + message_left_);
    incoming_.assign(reading_, readable_, std::string::npos);
    reading_.resize(readable_);
  }
  return true;
}

bool MessageQueue::Await(Waiter& waiter) {
  MutexLock lock(mutex_);
  if (!all_read() || ended_ || discarding_) return false;
  waiter_ = std::move(waiter);
  return true;
}

size_t MessageQueue::Discard() {
  Waiter waiter;
  size_t credit;
  // Perhaps the last reference to the session that it is part of: let go of without the mutex.
  std::shared_ptr<Budget> budget;
  {
    MutexLock lock(mutex_);
    discarding_ = true;
    in_message_ = false;
    std::string().swap(incoming_);
    // A reader may be at what Take gave it: reading_ stays until it comes again.
    whole_ = read_ = readable_ = 0;
    partial_charge_ = 0;
    GiveBack(charged_);
    budget = std::move(budget_);
    credit_ += std::exchange(unread_cost_, 0);
    credit = ended_ ? 0 : TakeCredit(1);
    waiter = std::exchange(waiter_, nullptr);
  }
  if (waiter != nullptr) waiter();
  return credit;
}

size_t MessageQueue::held() const {
  MutexLock lock(mutex_);
  return charged_;
}

size_t MessageQueue::TakeCredit(size_t at_least) {
  return credit_ >= at_least ? std::exchange(credit_, 0) : 0;
}

void MessageQueue::GiveBack(size_t bytes) {
  if (bytes == 0) return;
  charged_ -= bytes;
  budget_->GiveBack(bytes);
}

}  // namespace ferry
