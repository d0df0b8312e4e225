// One connection through a FaultProxy.
#ifndef FERRY_TESTS_TESTING_PROXIED_CONNECTION_H_
#define FERRY_TESTS_TESTING_PROXIED_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket_address.h"
#include "ferry/transport/timer_queue.h"

namespace ferry::test {

// Resets the connection instead of ending it cleanly, and closes the socket.
void CloseWithReset(transport::FileDescriptor& socket);

// What the connections of a proxy share.
struct ProxyShared {
  transport::EventLoop& loop;
  const transport::SocketAddress upstream;
  const size_t buffer_bytes;
  FaultProxy::Faults faults = {};
  FaultProxy::Counters counters = {};
};

// A ProxiedConnection is a client's connection, the one to the server, and what is under way between them.
//
// Belongs to its loop.
class ProxiedConnection {
 public:
  // `on_end` runs once when both sides have ended by themselves or by a fault, from the loop; it destroys
  // this.
  ProxiedConnection(ProxyShared& shared, transport::FileDescriptor client,
                    const transport::SocketAddress& client_address, absl::AnyInvocable<void() &&> on_end);
  ~ProxiedConnection();
  ProxiedConnection(const ProxiedConnection&) = delete;
  ProxiedConnection& operator=(const ProxiedConnection&) = delete;

  // Moves what can be moved, in the loop's next batch: for a new connection, and after the faults have
  // changed.
  void Begin() { WakeAt(loop_.now()); }

  // Resets both sides. The connection may only be destroyed afterwards.
  void Reset();

 private:
  // One of the two sockets.
  struct Side final : transport::EventLoop::Handler {
    explicit Side(ProxiedConnection* owner) : connection(owner) {}
    void OnEvents(uint32_t events) override { connection->OnEvents(*this, events); }

    ProxiedConnection* const connection;
    transport::FileDescriptor socket;
    transport::SocketAddress address;
  };

  // Bytes that go out at `due`; none is the end of the direction.
  struct Piece {
    std::string bytes;
    transport::Instant due;
  };

  // What flows one way.
  struct Direction {
    Side& from;
    Side& to;
    // Counters of the proxy's.
    uint64_t& bytes_read;
    uint64_t& bytes_written;
    std::deque<Piece> pieces = {};
    size_t offset = 0;                 // what of the first piece has gone
    size_t held = 0;                   // what the pieces count as
    uint64_t sent = 0;                 // since the beginning
    transport::Instant may_send = {};  // as the bandwidth allows
    bool read_all = false;             // the end of `from` has come
    bool finished = false;             // and was passed on
  };

  enum class State {
    kNew,         // the server was not called yet
    kConnecting,  // it was
    kOpen,
    kCut,    // both sides know of the end, and have to end themselves
    kEnded,  // both are closed
  };

  void OnEvents(Side& side, uint32_t events);
  void Run();
  void Pump();
  void Connect();
  void OnConnected(const absl::Status& status);
  bool Watch(Side& side);
  void Close(Side& side, bool reset);
  bool swallows() const { return lost_bytes_ || shared_.faults.black_hole; }
  void Read(Direction& direction);
  void Take(Direction& direction, absl::string_view bytes);
  void OnReadFailed(Direction& direction);
  void Write(Direction& direction, uint64_t cut_after);
  bool WritePiece(Direction& direction, uint64_t cut_after);
  void PopPiece(Direction& direction);
  void Swallow(Direction& direction);
  void Cut();
  void DropInput(Side& side);
  void WakeAt(transport::Instant due);

  ProxyShared& shared_;
  transport::EventLoop& loop_;
  // clang-format off
  absl::AnyInvocable<void() &&> on_end_;
  // clang-format on

  State state_ = State::kNew;
  bool lost_bytes_ = false;
  Side client_{this};
  Side server_{this};
  Direction to_server_;
  Direction to_client_;
  transport::Timer timer_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_PROXIED_CONNECTION_H_
