// What a server session sends.
#ifndef FERRY_RPC_SERVER_OUTPUT_H_
#define FERRY_RPC_SERVER_OUTPUT_H_

#include <google/protobuf/message_lite.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/executor.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/message_sender.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A ServerOutput sends the answers to calls, and streamed messages, over one connection, within the client's
// limits.
//
// Thread-safe. `connection` must outlive it.
class ServerOutput {
 public:
  // `features` are those that the server announces.
  ServerOutput(transport::Connection& connection, uint64_t features);

  // What the client has said in its SETTINGS.
  void SetPeer(const WireSettings& settings) ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t max_message() const { return max_message_.load(std::memory_order_relaxed); }
  // Whether both sides count windows (PROTOCOL.md section 11).
  bool counting() const { return counting_.load(std::memory_order_relaxed); }

  // Sends the answer of a call that ended with OK: its reply; and after a stream of replies, the end of that.
  // Returns the reply's size on the wire.
  size_t SendReply(ServerCall& call) {
    if (ABSL_PREDICT_FALSE(call.streams_replies)) return SendEndOfReplies(call), 0;
    const google::protobuf::MessageLite& reply = call.reply_message();
    const size_t size = reply.ByteSizeLong();
    const bool plain = size <= kMaxGathered && size <= max_message() && !call.context().has_reply_metadata();
    const MessageFrames frames{
        .type = transport::FrameType::kResponse, .stream = call.stream, .priority = call.priority};
    if (ABSL_PREDICT_TRUE(plain)) {
      FlushAfter(AppendMessage(frames, reply, size, connection_));
    } else {
      SendOtherReply(frames, call, reply, size);
    }
    return size;
  }

  // The head of the first of a stream of replies.
  absl::StatusOr<std::string> EncodeFirstHead(const Metadata& initial) const {
    // A large message's length is said in the same head, in up to 6 bytes.
    return initial.empty() ? std::string()
                           : EncodeMessageHead(initial, max_head_.load(std::memory_order_relaxed) - 6);
  }

  // Sends the end of a call that did not end with OK: behind the replies that wait to be sent, or `at_once`,
  // for nobody wants them, instead of them.
  void SendStatus(ServerCall& call, const absl::Status& status, bool at_once = false)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Answers a REQUEST that no call was made of.
  void Refuse(const transport::FrameHeader& request, const absl::Status& why);

  // The client has cancelled the call: what waits of its answer is dropped. If all of the answer was added,
  // ends the call; otherwise the call's own end, which is still to come, does, and nothing is sent before.
  void CancelAnswer(transport::StreamId stream) ABSL_LOCKS_EXCLUDED(mutex_);

  // Says why the connection is about to be closed.
  void SendConnectionStatus(const absl::Status& why);

  MessageSender::Added SendStreamed(const MessageFrames& frames, const google::protobuf::MessageLite& message,
                                    size_t size, MessageSender::OnSent on_sent) ABSL_LOCKS_EXCLUDED(mutex_);

  // The client accepts more, or will never say that it does: then windows do not count any more.
  absl::Status Enlarge(transport::StreamId stream, uint32_t increment) ABSL_LOCKS_EXCLUDED(mutex_);
  void StopCounting() ABSL_LOCKS_EXCLUDED(mutex_);
  // The connection has room.
  void Pump() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a message of the stream waits; whether none of any does; and how many bytes do, with a thousand
  // for each message: not 0 if any waits.
  bool waiting(transport::StreamId stream) ABSL_LOCKS_EXCLUDED(mutex_);
  bool idle() ABSL_LOCKS_EXCLUDED(mutex_);
  size_t waiting_bytes() const { return waiting_bytes_.load(std::memory_order_relaxed); }

 private:
  // The loop writes it at the end of its batch, or somebody is writing already; or we do, or let the loop do
  // it with what is about to be added.
  void FlushAfter(transport::Connection::Appended appended) {
    if (appended != transport::Connection::Appended::kFlush) return;
    if (Executor::MoreWaiting()) {
      connection_.FlushAppendedOnLoop();
    } else {
      connection_.FlushAppended();
    }
  }
  void SendOtherReply(MessageFrames frames, ServerCall& call, const google::protobuf::MessageLite& reply,
                      size_t size);
  void SendEndOfReplies(ServerCall& call);
  std::string CancelledHead() const;
  template <typename F>
  auto WithSender(F&& f) ABSL_LOCKS_EXCLUDED(mutex_) ABSL_NO_THREAD_SAFETY_ANALYSIS;

  transport::Connection& connection_;
  // The client's limits.
  std::atomic<uint64_t> max_message_;
  std::atomic<uint32_t> max_head_;
  std::atomic<bool> counting_{false};
  // What waiting_bytes() says, stored under the mutex.
  std::atomic<size_t> waiting_bytes_{0};

  transport::Mutex mutex_;
  MessageSender sender_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ferry

#endif  // FERRY_RPC_SERVER_OUTPUT_H_
