#include "examples/chat/chat_service.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace chat {
namespace {

// A Listener sends the room's lines after `position` to one client, each as soon as the client accepts it.
//
// Thread-safe. It lives as long as somebody may still run it.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(Room& room, ferry::StreamWriter<Line> lines, uint64_t position)
      : room_(room), lines_(std::move(lines)), position_(position) {}

  void Begin() {
    id_ = room_.Listen([self = shared_from_this()] { self->CatchUp(); });
    CatchUp();
  }

  void End() {
    room_.StopListening(id_);
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }

  // Sends what can be sent. One thread at a time does; another leaves it to that one.
  void CatchUp() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (waiting_ || ended_) return;
    while (const std::optional<Line> line = room_.After(position_)) {
      switch (lines_.TryWrite(*line)) {
        case ferry::WriteResult::kWritten:
          ++position_;
          break;
        case ferry::WriteResult::kFull:
          waiting_ = true;
          lines_.WhenWritable([self = shared_from_this()] { self->GoOn(); });
          return;
        case ferry::WriteResult::kEnded:
          ended_ = true;
          return;
      }
    }
  }

 private:
  void GoOn() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      absl::MutexLock lock(&mutex_);
      waiting_ = false;
    }
    CatchUp();
  }

  Room& room_;
  uint64_t id_ = 0;
  absl::Mutex mutex_;
  ferry::StreamWriter<Line> lines_ ABSL_GUARDED_BY(mutex_);
  uint64_t position_ ABSL_GUARDED_BY(mutex_);
  // WhenWritable will run GoOn.
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

// A Member is a call of Join: it says what its client sends, and listens.
class Member : public std::enable_shared_from_this<Member> {
 public:
  Member(Room& room, ferry::BidiStreamingCall<Line, Line> call)
      : room_(room),
        call_(std::move(call)),
        said_(call_.requests()),
        listener_(std::make_shared<Listener>(room, call_.replies(), room.last())) {}

  void Begin() {
    listener_->Begin();
    ReadNext();
  }

 private:
  void ReadNext() {
    said_.Read(line_, [self = shared_from_this()](bool read) {
      if (!read) return self->Leave();
      self->room_.Say(self->line_);
      self->ReadNext();
    });
  }

  void Leave() {
    listener_->End();
    std::move(call_).Finish(absl::OkStatus());
  }

  Room& room_;
  ferry::BidiStreamingCall<Line, Line> call_;
  ferry::StreamReader<Line> said_;
  const std::shared_ptr<Listener> listener_;
  Line line_;
};

// A Follower is a call of Follow: it listens until its client has gone.
class Follower : public std::enable_shared_from_this<Follower> {
 public:
  Follower(Room& room, ferry::ServerStreamingCall<FollowRequest, Line> call)
      : call_(std::move(call)),
        listener_(std::make_shared<Listener>(room, call_.replies(), call_.request().after())) {}

  void Begin() {
    listener_->Begin();
    call_.context().OnCancel([self = shared_from_this()] {
      self->listener_->End();
      std::move(self->call_).Finish(absl::OkStatus());
    });
  }

 private:
  ferry::ServerStreamingCall<FollowRequest, Line> call_;
  const std::shared_ptr<Listener> listener_;
};

}  // namespace

void RoomService::StartJoin(ferry::BidiStreamingCall<Line, Line> call) {
  std::make_shared<Member>(room_, std::move(call))->Begin();
}

void RoomService::StartFollow(ferry::ServerStreamingCall<FollowRequest, Line> call) {
  std::make_shared<Follower>(room_, std::move(call))->Begin();
}

}  // namespace chat
