// What generated code says of a method, known to both sides at compile time.
#ifndef FERRY_RPC_METHOD_H_
#define FERRY_RPC_METHOD_H_

#include <cstddef>
#include <cstdint>

namespace ferry {

// The id of "package.Service/Method" on the wire: FNV-1a, 64 bits (PROTOCOL.md section 6).
constexpr uint64_t MethodId(const char* full_name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char* c = full_name; *c != '\0'; ++c) {
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3u;
  }
  return hash;
}

// A MethodRetry is what a .proto says of sending a method's calls again (rpc/options.proto). A value; what is
// 0 is not said.
struct MethodRetry {
  // The most attempts that anybody may ask for.
  static constexpr int kMaxAttempts = 10;

  int max_attempts = 0;
  int64_t initial_backoff_us = 0;
  int64_t max_backoff_us = 0;
  int64_t hedge_delay_us = 0;

  friend constexpr bool operator==(const MethodRetry&, const MethodRetry&) = default;
};

// A MethodDescriptor is the constant part of a method: its name and the options of its .proto
// (rpc/options.proto). Immutable; generated code keeps it for as long as the program runs.
struct MethodDescriptor {
  // "package.Service/Method".
  const char* full_name;
  // MethodId(full_name).
  uint64_t id;
  // Whether the handler may run on the event loop's own thread. A server can override it.
  bool run_inline = false;
  // Whether running the method twice is as good as once.
  bool idempotent = false;
  // The time a call may take when its CallOptions name none, in microseconds; 0 is no limit.
  int64_t timeout_us = 0;
  // Whether the client sends a stream of requests, the server a stream of replies, instead of one.
  bool client_streaming = false;
  bool server_streaming = false;
  // How its calls are sent again, where the .proto says so.
  MethodRetry retry = {};
};

}  // namespace ferry

#endif  // FERRY_RPC_METHOD_H_
