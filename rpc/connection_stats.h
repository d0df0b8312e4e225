// What a client says of its connections.
#ifndef FERRY_RPC_CONNECTION_STATS_H_
#define FERRY_RPC_CONNECTION_STATS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ferry {

// A ConnectionStats is what one connection of a client was like at one moment, or an attempt to make one.
struct ConnectionStats {
  enum class State : uint8_t {
    kConnecting,  // being made, or the server's SETTINGS have not come yet
    kReady,       // takes calls
    kDraining,    // takes no new calls, and ends when those that it has have ended
    kWaiting,     // could not be made, or the server took no calls on it: it is tried again later
  };

  // The server, as the channel or its resolver calls it, and the address that is connected to; empty if there
  // is none.
  std::string server = {};
  std::string peer = {};
  State state = State::kConnecting;
  // Since it was connected; zero before.
  absl::Duration age = absl::ZeroDuration();
  // How many requests it has carried, and how many calls on it have not ended, streams among them.
  uint64_t calls_started = 0;
  uint64_t calls_in_flight = 0;
  uint64_t streams = 0;
  // What the operating system has taken and given.
  uint64_t bytes_written = 0;
  uint64_t bytes_read = 0;
  // Why the connection before it was lost, or the last attempt failed; OK if none was.
  absl::Status last_error = {};
};

// "connecting", "ready", "draining", "waiting".
inline absl::string_view ConnectionStateName(ConnectionStats::State state) {
  switch (state) {
    case ConnectionStats::State::kConnecting:
      return "connecting";
    case ConnectionStats::State::kReady:
      return "ready";
    case ConnectionStats::State::kDraining:
      return "draining";
    case ConnectionStats::State::kWaiting:
      return "waiting";
  }
  return "unknown";
}

}  // namespace ferry

#endif  // FERRY_RPC_CONNECTION_STATS_H_
