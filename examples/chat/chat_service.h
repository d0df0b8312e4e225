// The handlers of the chat: neither keeps a thread while nobody speaks.
#ifndef FERRY_EXAMPLES_CHAT_CHAT_SERVICE_H_
#define FERRY_EXAMPLES_CHAT_CHAT_SERVICE_H_

#include "examples/chat/chat.ferry.h"
#include "examples/chat/room.h"

namespace chat {

// A RoomService serves one room.
//
// Thread-safe.
class RoomService final : public ChatService {
 public:
  void StartJoin(ferry::BidiStreamingCall<Line, Line> call) override;
  void StartFollow(ferry::ServerStreamingCall<FollowRequest, Line> call) override;

 private:
  Room room_;
};

}  // namespace chat

#endif  // FERRY_EXAMPLES_CHAT_CHAT_SERVICE_H_
