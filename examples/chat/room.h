// What was said in a room, and those who listen.
#ifndef FERRY_EXAMPLES_CHAT_ROOM_H_
#define FERRY_EXAMPLES_CHAT_ROOM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "examples/chat/chat.pb.h"

namespace chat {

// A Room keeps its lines, and tells listeners that there are new ones. It does not send them: each listener
// fetches what it lacks when it can send it, so that a slow one holds up nobody and fills no memory.
//
// Thread-safe.
class Room {
 public:
  // Says a line, and runs every listener's function on this thread.
  void Say(Line line) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::function<void()>> listeners;
    {
      absl::MutexLock lock(&mutex_);
      line.set_number(lines_.size() + 1);
      lines_.push_back(std::move(line));
      for (const auto& [id, listener] : listeners_) listeners.push_back(listener);
    }
    for (const std::function<void()>& listener : listeners) listener();
  }

  // The line after the given one, if it was said.
  std::optional<Line> After(uint64_t number) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (number >= lines_.size()) return std::nullopt;
    return lines_[number];
  }

  uint64_t last() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return lines_.size();
  }

  // `listener` may still be run once by a Say under way when StopListening returns.
  uint64_t Listen(std::function<void()> listener) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    listeners_.emplace(next_id_, std::move(listener));
    return next_id_++;
  }
  void StopListening(uint64_t id) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    listeners_.erase(id);
  }

 private:
  mutable absl::Mutex mutex_;
  std::deque<Line> lines_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace chat

#endif  // FERRY_EXAMPLES_CHAT_ROOM_H_
