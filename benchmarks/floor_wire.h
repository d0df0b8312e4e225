// What both sides of the floor share: sockets, and frames of a length and a message.
#ifndef FERRY_BENCHMARKS_FLOOR_WIRE_H_
#define FERRY_BENCHMARKS_FLOOR_WIRE_H_

#include <google/protobuf/message_lite.h>
#include <sched.h>
#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ferry::bench {

// Ends the program, with `what` and errno's text, if `result` is negative. Returns `result`.
int OrDie(int result, const char* what);

// Sockets that listen at, or are connected to, "127.0.0.1:port" or "unix:/path". TCP_NODELAY is on.
int FloorListen(const std::string& address);
int FloorConnect(const std::string& address);
// Where a listening socket can be reached.
std::string FloorAddress(int listener);
void SetNoDelay(int socket);

//  0          4
//  +----------+-----------
//  | length   | message ..
//  +----------+-----------
//  length  bytes of the message, in this machine's byte order
void AppendFrame(const google::protobuf::MessageLite& message, std::string& to);

// A FrameInput cuts what a socket receives into frames.
//
// Thread-compatible.
class FrameInput {
 public:
  // Receives once. Returns what recv returned.
  ssize_t Fill(int socket, int flags);

  // The message of the next frame, or nullopt if it is not all there. Valid until Fill.
  std::optional<std::string_view> Take();

 private:
  std::string buffer_ = std::string(64 * 1024, '\0');
  // What was received and not taken lies in [begin_, end_).
  size_t begin_ = 0;
  size_t end_ = 0;
};

// A PatientPoll yields the processor whenever asking has been in vain for long, several times as long as an
// answer takes: whoever is to answer may be waiting for that very processor, and would have to wait for the
// rest of a time slice.
//
// Thread-compatible.
class PatientPoll {
 public:
  void Asked(bool in_vain) {
    tries_ = in_vain ? tries_ + 1 : 0;
    if (tries_ % 64 == 63) sched_yield();
  }

 private:
  unsigned tries_ = 0;
};

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_FLOOR_WIRE_H_
