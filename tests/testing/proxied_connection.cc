#include "tests/testing/proxied_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_options.h"

namespace ferry::test {

using transport::FileDescriptor;
using transport::Instant;
using transport::IoResult;
using transport::SocketAddress;

namespace {

// What a piece counts as at least: its bookkeeping takes memory too.
constexpr size_t kLeastPiece = 64;

size_t CountsAs(size_t bytes) { return std::max(bytes, kLeastPiece); }

}  // namespace

void CloseWithReset(FileDescriptor& socket) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  // Without it the connection still ends, though not by a reset.
  static_cast<void>(setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
  socket.Close();
}

ProxiedConnection::ProxiedConnection(ProxyShared& shared, FileDescriptor client,
                                     const SocketAddress& client_address,
                                     absl::AnyInvocable<void() &&> on_end)
    : shared_(shared),
      loop_(shared.loop),
      on_end_(std::move(on_end)),
      to_server_{client_, server_, shared.counters.bytes_from_client, shared.counters.bytes_to_server},
      to_client_{server_, client_, shared.counters.bytes_from_server, shared.counters.bytes_to_client},
      timer_([this] { Run(); }) {
  ++shared_.counters.open_connections;
  client_.socket = std::move(client);
  client_.address = client_address;
  if (!Watch(client_)) Close(client_, /*reset=*/true);
}

ProxiedConnection::~ProxiedConnection() {
  for (Side* side : {&client_, &server_}) Close(*side, /*reset=*/false);
  for (Direction* direction : {&to_server_, &to_client_}) shared_.counters.bytes_held -= direction->held;
  --shared_.counters.open_connections;
}

void ProxiedConnection::Reset() {
  for (Side* side : {&client_, &server_}) Close(*side, /*reset=*/true);
  state_ = State::kEnded;
}

// Small writes leave at once.
bool ProxiedConnection::Watch(Side& side) {
  absl::Status status = ApplyOptions(side.socket, side.address, {});
  if (status.ok()) status = loop_.Watch(side.socket, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, side);
  return status.ok();
}

void ProxiedConnection::Close(Side& side, bool reset) {
  if (!side.socket.open()) return;
  loop_.Unwatch(side.socket, side);
  if (reset) return CloseWithReset(side.socket);
  side.socket.Close();
}

void ProxiedConnection::WakeAt(Instant due) {
  if (timer_.armed() && timer_.due() <= due) return;
  loop_.timers().Arm(timer_, due);
}

void ProxiedConnection::OnEvents(Side& side, uint32_t events) {
  const bool decided = (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0;
  if (state_ == State::kConnecting && &side == &server_ && decided) {
    OnConnected(transport::FinishConnect(side.socket, side.address));
  }
  Run();
}

// Destroys this if it has ended.
void ProxiedConnection::Run() {
  if (state_ != State::kEnded) Pump();
  if (state_ != State::kEnded) return;
  absl::AnyInvocable<void()&&> on_end = std::move(on_end_);
  std::move(on_end)();
}

void ProxiedConnection::Pump() {
  const FaultProxy::Faults& faults = shared_.faults;
  if (state_ == State::kCut) {
    for (Side* side : {&client_, &server_}) DropInput(*side);
    if (!client_.socket.open() && !server_.socket.open()) state_ = State::kEnded;
    return;
  }
  if (faults.stall) return;
  if (state_ == State::kNew && !swallows()) Connect();
  for (Direction* direction : {&to_server_, &to_client_}) {
    if (swallows()) Swallow(*direction);
    const uint64_t cut_after =
        direction == &to_server_ ? faults.cut_to_server_after : faults.cut_to_client_after;
    Read(*direction);
    Write(*direction, cut_after);
    if (state_ == State::kCut || state_ == State::kEnded) return;
  }
  const bool both_gone = !client_.socket.open() && !server_.socket.open();
  const bool both_read = to_server_.read_all && to_client_.read_all && lost_bytes_;
  if (both_gone || both_read || (to_server_.finished && to_client_.finished)) {
    for (Side* side : {&client_, &server_}) Close(*side, /*reset=*/false);
    state_ = State::kEnded;
  }
}

// ---------------------------------------------------------------- Connecting

void ProxiedConnection::Connect() {
  server_.address = shared_.upstream;
  absl::StatusOr<FileDescriptor> socket = transport::OpenSocket(shared_.upstream);
  if (!socket.ok()) return OnConnected(socket.status());
  const absl::StatusOr<transport::ConnectState> started = StartConnect(*socket, shared_.upstream);
  if (!started.ok()) return OnConnected(started.status());
  // The server of a Unix socket is behind with accepting: soon again.
  if (*started == transport::ConnectState::kQueueFull) return WakeAt(loop_.now() + absl::Milliseconds(1));
  server_.socket = *std::move(socket);
  state_ = State::kConnecting;
  if (!Watch(server_)) {
    server_.socket.Close();
    return OnConnected(absl::UnavailableError("the server's socket cannot be used"));
  }
  if (*started == transport::ConnectState::kConnected) OnConnected(absl::OkStatus());
}

void ProxiedConnection::OnConnected(const absl::Status& status) {
  if (status.ok()) {
    state_ = State::kOpen;
    return;
  }
  ++shared_.counters.failed_connections;
  Reset();
}

// ---------------------------------------------------------------- Reading

void ProxiedConnection::Read(Direction& direction) {
  // The others have a turn after this.
  constexpr int kMostReads = 16;
  // Reading from it would take away why it cannot be connected to.
  if (&direction.from == &server_ && state_ == State::kConnecting) return;
  for (int reads = 0; reads < kMostReads; ++reads) {
    if (state_ == State::kEnded || direction.read_all || !direction.from.socket.open()) return;
    if (direction.held >= shared_.buffer_bytes) return;
    absl::Span<char> room = loop_.scratch().subspan(0, shared_.buffer_bytes - direction.held);
    const iovec part = {.iov_base = room.data(), .iov_len = room.size()};
    const IoResult result = Receive(direction.from.socket, {&part, 1}, direction.from.address);
    switch (result.state) {
      case IoResult::State::kDone:
        direction.bytes_read += result.bytes;
        Take(direction, {room.data(), result.bytes});
        break;
      case IoResult::State::kEnd:
        direction.read_all = true;
        Take(direction, {});
        break;
      case IoResult::State::kWouldBlock:
        return;
      case IoResult::State::kFailed:
        return OnReadFailed(direction);
    }
  }
  WakeAt(loop_.now());
}

void ProxiedConnection::Take(Direction& direction, absl::string_view bytes) {
  if (swallows()) {
    lost_bytes_ = true;
    shared_.counters.bytes_swallowed += bytes.size();
    return;
  }
  Instant due = loop_.now() + shared_.faults.delay;
  if (!direction.pieces.empty()) due = std::max(due, direction.pieces.back().due);
  direction.pieces.push_back({.bytes = std::string(bytes), .due = due});
  direction.held += CountsAs(bytes.size());
  shared_.counters.bytes_held += CountsAs(bytes.size());
}

void ProxiedConnection::OnReadFailed(Direction& direction) {
  // That one side has gone vanishes too.
  if (swallows()) {
    lost_bytes_ = true;
    return Close(direction.from, /*reset=*/false);
  }
  Reset();
}

void ProxiedConnection::Swallow(Direction& direction) {
  while (!direction.pieces.empty()) {
    shared_.counters.bytes_swallowed += direction.pieces.front().bytes.size() - direction.offset;
    lost_bytes_ = true;
    PopPiece(direction);
  }
}

// ---------------------------------------------------------------- Writing

void ProxiedConnection::Write(Direction& direction, uint64_t cut_after) {
  if (state_ != State::kOpen || swallows()) return;
  const bool was_full = direction.held >= shared_.buffer_bytes;
  while (direction.sent < cut_after && !direction.pieces.empty()) {
    const Piece& piece = direction.pieces.front();
    const Instant due = std::max(piece.due, direction.may_send);
    if (due > loop_.now()) {
      WakeAt(due);
      break;
    }
    if (piece.bytes.empty()) {
      transport::ShutdownWriting(direction.to.socket);
      direction.finished = true;
      PopPiece(direction);
    } else if (!WritePiece(direction, cut_after)) {
      break;
    }
  }
  if (state_ != State::kOpen) return;
  if (direction.sent >= cut_after) return Cut();
  if (was_full && direction.held < shared_.buffer_bytes) WakeAt(loop_.now());
}

// Whether more may be written at once.
bool ProxiedConnection::WritePiece(Direction& direction, uint64_t cut_after) {
  const FaultProxy::Faults& faults = shared_.faults;
  Piece& piece = direction.pieces.front();
  uint64_t size = std::min<uint64_t>(piece.bytes.size() - direction.offset, cut_after - direction.sent);
  if (faults.max_piece > 0) size = std::min<uint64_t>(size, faults.max_piece);
  if (faults.bytes_per_second > 0) {
    size = std::min(size, std::max<uint64_t>(faults.bytes_per_second / 100, 1));
  }
  const iovec part = {.iov_base = piece.bytes.data() + direction.offset, .iov_len = size};
  const IoResult result = Send(direction.to.socket, {&part, 1}, direction.to.address);
  if (result.state == IoResult::State::kFailed) {
    Reset();
    return false;
  }
  if (result.state != IoResult::State::kDone) return false;
  direction.offset += result.bytes;
  direction.sent += result.bytes;
  direction.bytes_written += result.bytes;
  if (faults.bytes_per_second > 0) {
    const double seconds = static_cast<double>(result.bytes) / static_cast<double>(faults.bytes_per_second);
    direction.may_send = std::max(direction.may_send, loop_.now()) + absl::Seconds(seconds);
  }
  if (direction.offset == piece.bytes.size()) PopPiece(direction);
  if (faults.max_piece == 0) return true;
  if (!direction.pieces.empty()) WakeAt(loop_.now());
  return false;
}

void ProxiedConnection::PopPiece(Direction& direction) {
  const size_t held = CountsAs(direction.pieces.front().bytes.size());
  direction.held -= held;
  shared_.counters.bytes_held -= held;
  direction.offset = 0;
  direction.pieces.pop_front();
}

// ---------------------------------------------------------------- Cutting

void ProxiedConnection::Cut() {
  ++shared_.counters.cuts;
  if (shared_.faults.cut_with_reset) return Reset();
  // A socket that is closed with something unread resets its connection: each side has to end first.
  for (Side* side : {&client_, &server_}) {
    if (side->socket.open()) transport::ShutdownWriting(side->socket);
  }
  state_ = State::kCut;
  WakeAt(loop_.now());
}

void ProxiedConnection::DropInput(Side& side) {
  const iovec part = {.iov_base = loop_.scratch().data(), .iov_len = loop_.scratch().size()};
  while (side.socket.open()) {
    const IoResult result = Receive(side.socket, {&part, 1}, side.address);
    if (result.state == IoResult::State::kWouldBlock) return;
    if (result.state != IoResult::State::kDone) Close(side, /*reset=*/false);
  }
}

}  // namespace ferry::test
