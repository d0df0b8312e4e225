#include "ferry/rpc/message_sender.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry {

using transport::Connection;
using transport::FrameType;
using transport::kFrameHeaderSize;
using transport::StreamId;

namespace {

// What a frame takes from the windows beside its message bytes (PROTOCOL.md [P11.1]).
constexpr int64_t kFrameCost = kFrameHeaderSize;
// A message of at most this many bytes waits for a window rather than go out in several small frames.
constexpr size_t kMaxUnsplit = 16 * 1024;
constexpr int64_t kMaxWindow = std::numeric_limits<int32_t>::max();

// High before normal before low (PROTOCOL.md [P3.7]).
int Rank(uint8_t priority) { return priority == 1 ? 0 : priority == 2 ? 2 : 1; }

// How much of `left` bytes may go into the next frame when the windows have `window`; nullopt if nothing may.
std::optional<size_t> FragmentSize(size_t left, size_t limit, int64_t window) {
  const int64_t room = window - kFrameCost;
  if (room < static_cast<int64_t>(std::min(left, kMaxUnsplit))) return std::nullopt;
  return std::min({left, limit, static_cast<size_t>(room)});
}

}  // namespace

MessageSender::MessageSender(Connection& connection, uint64_t features)
    : connection_(connection),
      counting_((features & kFlowControlFeature) != 0),
      window_(peer_.initial_connection_window) {}

void MessageSender::SetPeer(const WireSettings& settings) {
  const int64_t more = int64_t{settings.initial_stream_window} - peer_.initial_stream_window;
  window_ += int64_t{settings.initial_connection_window} - peer_.initial_connection_window;
  if ((settings.features & kFlowControlFeature) == 0) counting_ = false;
  peer_ = settings;
  for (auto& [id, stream] : streams_) {
    stream->window += more;
    MakeUnready(*stream);
    MakeReady(*stream);
  }
  Pump();
}

void MessageSender::StopCounting() {
  counting_ = false;
  for (auto& [id, stream] : streams_) MakeReady(*stream);
  Pump();
}

// ---------------------------------------------------------------- Adding

MessageSender::Stream& MessageSender::StreamOf(StreamId id) {
  std::unique_ptr<Stream>& stream = streams_[id.value()];
  if (stream == nullptr) {
    stream = std::make_unique<Stream>();
    stream->stream = id;
    stream->window = peer_.initial_stream_window;
  }
  return *stream;
}

MessageSender::Added MessageSender::AddSmall(const MessageFrames& frames,
                                             const google::protobuf::MessageLite& message, size_t size) {
  if (closed_) return Added::kClosed;
  const auto found = streams_.find(frames.stream.value());
  Stream& stream = found != streams_.end() ? *found->second : StreamOf(frames.stream);
  if (stream.cancelled) return Added::kClosed;
  if (stream.has_message || !ready_.empty() || size > kMaxGathered || !connection_.HasRoom()) {
    return Added::kWaiting;
  }
  const int64_t cost = kFrameCost + static_cast<int64_t>(size);
  if (counting_ && std::min(stream.window, window_) < cost) return Added::kWaiting;
  const Connection::Appended appended = connection_.Append([&](Connection::Output& output) {
    char* out = output.Append(SizeBeforeMessage(frames) + size);
    out = WriteBeforeMessage(frames, size, 0, out);
    message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out));
  });
  stream.window -= cost;
  window_ -= cost;
  Note(appended);
  return closed_ ? Added::kClosed : Added::kSent;
}

MessageSender::Added MessageSender::Add(Message message) {
  if (closed_) return Added::kClosed;
  const StreamId id = message.frames.stream;
  Stream& stream = StreamOf(id);
  if (stream.cancelled) return Added::kClosed;
  stream.head = std::string(message.frames.head);
  stream.left = message.encoded.bytes.size();
  if (message.frames.type == FrameType::kMessage && stream.left > kMaxUnsplit) {
    wire::MessageHead length;
    length.set_message_length(stream.left);
    length.AppendToString(&stream.head);
  }
  OnSent on_sent = std::exchange(message.on_sent, nullptr);
  stream.message = std::move(message);
  stream.message.frames.head = stream.head;
  stream.has_message = true;
  stream.first_frame_sent = false;
  waiting_bytes_ += stream.left;
  ++waiting_streams_;
  MakeReady(stream);
  Pump();
  if (closed_) return Added::kClosed;
  const auto found = streams_.find(id.value());
  if (found == streams_.end() || !found->second->has_message) return Added::kSent;
  found->second->message.on_sent = std::move(on_sent);
  return Added::kWaiting;
}

MessageSender::Added MessageSender::AddEnd(FrameType type, StreamId id, uint8_t priority, std::string head) {
  if (closed_) return Added::kClosed;
  Stream& stream = StreamOf(id);
  stream.has_end = true;
  stream.end_type = type;
  stream.end_head = std::move(head);
  stream.message.frames.priority = priority;
  if (stream.has_message) return Added::kWaiting;
  AppendEnd(stream);
  if (!closed_) Forget(stream);
  return closed_ ? Added::kClosed : Added::kSent;
}

bool MessageSender::waiting(StreamId stream) const {
  const auto found = streams_.find(stream.value());
  return found != streams_.end() && found->second->has_message;
}

bool MessageSender::Cancel(StreamId id) {
  const auto found = streams_.find(id.value());
  if (found == streams_.end()) return false;
  Stream& stream = *found->second;
  const bool had_end = stream.has_end || (stream.has_message && stream.message.end_stream);
  if (stream.has_message) FinishMessage(stream);
  stream.cancelled = true;
  if (had_end) Forget(stream);
  return had_end;
}

bool MessageSender::cancelled(StreamId stream) const {
  const auto found = streams_.find(stream.value());
  return found != streams_.end() && found->second->cancelled;
}

bool MessageSender::Drop(StreamId id) {
  const auto found = streams_.find(id.value());
  if (found == streams_.end()) return false;
  Stream& stream = *found->second;
  const bool unsent =
      stream.has_message && stream.message.frames.type == FrameType::kRequest && !stream.first_frame_sent;
  if (stream.has_message) FinishMessage(stream);
  Forget(stream);
  return unsent;
}

void MessageSender::DropAll() {
  closed_ = true;
  for (auto& [id, stream] : streams_) {
    if (stream->has_message) FinishMessage(*stream);
  }
  streams_.clear();
}

absl::Status MessageSender::Enlarge(StreamId id, uint32_t increment) {
  int64_t* window = &window_;
  if (id != transport::kConnectionStream) {
    const auto found = streams_.find(id.value());
    if (found == streams_.end()) return absl::OkStatus();
    window = &found->second->window;
  }
  if (*window + increment > kMaxWindow) {
    return absl::InternalError(absl::StrCat("WINDOW frame enlarges the window of slot ", id.slot(), " to ",
                                            *window + increment, ", limit is ", kMaxWindow));
  }
  *window += increment;
  if (id != transport::kConnectionStream) MakeReady(*streams_[id.value()]);
  Pump();
  return absl::OkStatus();
}

// ---------------------------------------------------------------- Taking turns

// Puts a stream among those that may send, if its own window lets it.
void MessageSender::MakeReady(Stream& stream) {
  if (!stream.has_message || stream.ready) return;
  if (!NextFragment(stream, stream.window).has_value()) return;
  stream.key = {Rank(stream.message.frames.priority), stream.left, stream.stream.value()};
  ready_.insert(stream.key);
  stream.ready = true;
}

void MessageSender::MakeUnready(Stream& stream) {
  if (std::exchange(stream.ready, false)) ready_.erase(stream.key);
}

std::optional<size_t> MessageSender::NextFragment(const Stream& stream, int64_t window) const {
  const size_t limit =
      stream.first_frame_sent ? kMaxFragment : FragmentLimit(stream.message.frames.head.size());
  return FragmentSize(stream.left, limit, counting_ ? window : kMaxWindow);
}

void MessageSender::Pump() {
  while (!ready_.empty() && !closed_ && connection_.HasRoom()) {
    const uint32_t id = std::get<2>(*ready_.begin());
    Stream& stream = *streams_[id];
    const std::optional<size_t> size = NextFragment(stream, std::min(stream.window, window_));
    // The connection's window is what lacks: it lacks for the others too.
    if (!size.has_value()) return;
    MakeUnready(stream);
    AppendFragment(stream, *size);
    if (const auto found = streams_.find(id); found != streams_.end()) MakeReady(*found->second);
  }
}

// Sends the next `size` bytes of the stream's message.
void MessageSender::AppendFragment(Stream& stream, size_t size) {
  Message& message = stream.message;
  const absl::string_view part =
      message.encoded.bytes.substr(message.encoded.bytes.size() - stream.left, size);
  const bool first = !stream.first_frame_sent;
  const bool last = size == stream.left;
  const uint8_t flags = !last ? transport::kMore : message.end_stream ? transport::kEndStream : uint8_t{0};
  MessageFrames frames = message.frames;
  if (!first) frames = {.type = FrameType::kMessage, .stream = stream.stream, .priority = frames.priority};
  const Connection::Appended appended = connection_.Append([&](Connection::Output& output) {
    const size_t before = SizeBeforeMessage(frames);
    if (part.size() > kMaxGathered) {
      WriteBeforeMessage(frames, part.size(), flags, output.Append(before));
      output.Append(message.encoded.block, part);
      return;
    }
    char* out = WriteBeforeMessage(frames, part.size(), flags, output.Append(before + part.size()));
    if (!part.empty()) std::memcpy(out, part.data(), part.size());
  });
  const int64_t cost = kFrameCost + static_cast<int64_t>(size);
  stream.window -= cost;
  window_ -= cost;
  stream.left -= size;
  waiting_bytes_ -= size;
  stream.first_frame_sent = true;
  if (first && frames.type == FrameType::kRequest) {
    ++requests;
    if (message.ordinal != nullptr) *message.ordinal = requests;
  }
  Note(appended);
  if (!last || closed_) return;
  const bool forget = message.end_stream || stream.has_end;
  FinishMessage(stream);
  if (stream.has_end) AppendEnd(stream);
  if (forget && !closed_) Forget(stream);
}

void MessageSender::AppendEnd(const Stream& stream) {
  const MessageFrames frames{.type = stream.end_type,
                             .stream = stream.stream,
                             .priority = stream.message.frames.priority,
                             .head = stream.end_head};
  Note(connection_.Append([&](Connection::Output& output) {
    WriteBeforeMessage(frames, 0, transport::kEndStream, output.Append(SizeBeforeMessage(frames)));
  }));
}

void MessageSender::Note(Connection::Appended appended) {
  if (appended == Connection::Appended::kFlush) flush_ = true;
  if (appended == Connection::Appended::kClosed) DropAll();
}

// The stream's message is appended, or never will be.
void MessageSender::FinishMessage(Stream& stream) {
  MakeUnready(stream);
  waiting_bytes_ -= stream.left;
  --waiting_streams_;
  stream.left = 0;
  stream.has_message = false;
  stream.message.encoded = {};
  if (stream.message.on_sent != nullptr) sent_.push_back(std::exchange(stream.message.on_sent, nullptr));
}

void MessageSender::Forget(Stream& stream) {
  MakeUnready(stream);
  streams_.erase(stream.stream.value());
}

}  // namespace ferry
