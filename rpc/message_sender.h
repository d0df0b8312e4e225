// Messages that cannot all go out at once.
#ifndef FERRY_RPC_MESSAGE_SENDER_H_
#define FERRY_RPC_MESSAGE_SENDER_H_

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/message_frames.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/frame.h"
#include "ferry/transport/mutex.h"

namespace ferry {

// A MessageSender has the fragments and streamed messages of one connection take turns: by priority, then
// those with the fewest bytes left first (PROTOCOL.md section 10), and none beyond what the peer has said it
// accepts (section 11). It hands the connection only as much as will soon be written, so that small frames
// need not wait behind a large message.
//
//     Add ---> nothing waits, window and room: appended at once
//         '--> waits in its stream --Pump--> a fragment at a time, as windows open and output goes
//
// Thread-compatible: its owner's mutex guards it. The owner then, without the mutex, flushes the connection
// if `flush()` says so and runs what TakeSent returns. `connection` must outlive it.
class MessageSender {
 public:
  // Run when a message that had to wait has been appended, or never will be.
  using OnSent = absl::AnyInvocable<void()>;

  // A Message is what Add is given. Its frames' deadline and clock count only for a REQUEST.
  struct Message {
    MessageFrames frames;
    EncodedMessage encoded;
    // It is the last of this side on its stream.
    bool end_stream = false;
    OnSent on_sent = nullptr;
    // Whom to tell the ordinal of a REQUEST when its first frame is appended; not owned, may be null.
    uint64_t* ordinal = nullptr;
  };

  enum class Added {
    kSent,     // all of it is appended
    kWaiting,  // on_sent will be run
    kClosed,   // the connection is closed, or the stream was cancelled
  };

  // `features` are those that this side announces.
  MessageSender(transport::Connection& connection, uint64_t features);

  bool counting() const { return counting_; }

  // What the peer has said in its SETTINGS; until then the defaults count (PROTOCOL.md [P11.3]). Windows
  // count only if both sides have announced so.
  void SetPeer(const WireSettings& settings);

  // From now on windows do not count: the peer will never say that it accepts more.
  void StopCounting();

  // The number of REQUESTs appended so far, which whoever appends others keeps up.
  uint64_t requests = 0;

  // Sends a message of at most kMaxGathered bytes as one MESSAGE, if that can be done at once: kWaiting if
  // not, and nothing was done; the message is to be encoded and added. `size` is message.ByteSizeLong(), just
  // called.
  Added AddSmall(const MessageFrames& frames, const google::protobuf::MessageLite& message, size_t size);

  // Sends a message in as many frames as it takes. A MESSAGE's head is given its length here, if it needs it.
  // REQUIRES: none of the stream waits.
  Added Add(Message message);

  // Sends a frame without message bytes behind what waits on the stream, and forgets the stream: the end of
  // this side. A MESSAGE ends a client's stream, a RESPONSE a call.
  Added AddEnd(transport::FrameType type, transport::StreamId stream, uint8_t priority, std::string head);

  // Whether a message of the stream waits.
  bool waiting(transport::StreamId stream) const;

  // The peer has cancelled the call: what was not appended yet of the stream never will be. Returns whether
  // its end was among that: then the stream is forgotten, and the owner is to send another end. If the end
  // has yet to be added, nothing but that is taken from now on; a stream that is not known is left alone.
  bool Cancel(transport::StreamId stream);
  // Whether it was cancelled before its end was added, and may so lack a message.
  bool cancelled(transport::StreamId stream) const;

  // What was not appended yet of the stream never will be. Returns whether its REQUEST has not been, either,
  // though it was added.
  bool Drop(transport::StreamId stream);
  void DropAll();

  // The peer accepts more (PROTOCOL.md [P11.2]). INTERNAL if that is more than a window can be.
  absl::Status Enlarge(transport::StreamId stream, uint32_t increment);

  // Appends what may be. After Enlarge, SetPeer and the connection's OnRoom.
  void Pump();

  // Whether something was appended that the owner must have flushed; asked once.
  bool TakeFlush() { return std::exchange(flush_, false); }
  // What is to be run for messages that are appended, or dropped.
  std::vector<OnSent> TakeSent() { return std::exchange(sent_, {}); }

  // Bytes of messages that are not appended yet.
  size_t waiting_bytes() const { return waiting_bytes_; }
  size_t waiting_streams() const { return waiting_streams_; }
  bool idle() const { return waiting_streams_ == 0; }
  // Whether it knows no stream at all.
  bool empty() const { return streams_.empty(); }

 private:
  struct Stream {
    transport::StreamId stream;
    int64_t window = 0;
    bool has_message = false;
    bool first_frame_sent = false;
    // frames.head refers to head.
    Message message;
    std::string head;
    size_t left = 0;
    bool cancelled = false;
    bool has_end = false;
    transport::FrameType end_type{};
    std::string end_head;
    // Where it stands in ready_, if it does.
    bool ready = false;
    std::tuple<int, size_t, uint32_t> key;
  };
  using Key = std::tuple<int, size_t, uint32_t>;

  Stream& StreamOf(transport::StreamId stream);
  std::optional<size_t> NextFragment(const Stream& stream, int64_t window) const;
  void AppendFragment(Stream& stream, size_t size);
  void AppendEnd(const Stream& stream);
  void Note(transport::Connection::Appended appended);
  void FinishMessage(Stream& stream);
  void MakeReady(Stream& stream);
  void MakeUnready(Stream& stream);
  void Forget(Stream& stream);

  transport::Connection& connection_;
  // Its settings, as far as they are known.
  WireSettings peer_;
  // Whether windows count.
  bool counting_;
  int64_t window_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<Stream>> streams_;
  // Streams with a message of which a fragment may be sent as far as their own window goes.
  std::set<Key> ready_;
  size_t waiting_bytes_ = 0;
  size_t waiting_streams_ = 0;
  bool flush_ = false;
  bool closed_ = false;
  std::vector<OnSent> sent_;
};

// Lets `f` use `sender`, which `mutex` guards if it is `shared`, and then does what that asks for, `flush`
// included, without the mutex. Returns what `f` returns.
template <typename F, typename Flush>
auto UseSender(transport::Mutex& mutex, bool shared, MessageSender& sender, F&& f, Flush&& flush) {
  // Its end comes after the lock's.
  struct Done {
    Flush& flush;
    bool must_flush = false;
    std::vector<MessageSender::OnSent> sent = {};
    ~Done() {
      if (must_flush) flush();
      for (MessageSender::OnSent& on_sent : sent) on_sent();
    }
  };
  struct Collect {
    MessageSender& sender;
    Done& done;
    ~Collect() {
      done.must_flush = sender.TakeFlush();
      done.sent = sender.TakeSent();
    }
  };
  Done done{flush};
  transport::SharedLock lock(mutex, shared);
  const Collect collect{sender, done};
  return f(sender);
}

}  // namespace ferry

#endif  // FERRY_RPC_MESSAGE_SENDER_H_
