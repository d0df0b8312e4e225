// Passive health: takes servers out of use whose calls go worse than those of the others.
#ifndef FERRY_RPC_BALANCING_OUTLIER_DETECTOR_H_
#define FERRY_RPC_BALANCING_OUTLIER_DETECTOR_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/server_load.h"
#include "ferry/transport/clock.h"

namespace ferry {

// An OutlierDetector looks at the ServerLoads of a service's servers from time to time, and says which are to
// be ejected, and which may come back.
//
//     in use --an outlier--> ejected --its time is over--> ramping up --ramp_time--> in use
//                               ^                              | an outlier again: twice as long
//                               '------------------------------'
//
// Calls themselves only count in the ServerLoad, so the detector costs them nothing.
//
// Thread-compatible. It never reads a clock.
class OutlierDetector {
 public:
  struct Options {
    // So many failures in a row make an outlier. 0: they do not count.
    uint32_t failures_in_a_row = 5;

    // What the next two look at: the calls that have ended in this time.
    absl::Duration window = absl::Seconds(10);
    // And at no server with fewer than these.
    uint32_t min_volume = 20;
    // More than this share of failures makes an outlier. 1: they do not count.
    double max_failure_share = 0.5;
    // A mean latency more than this many times the median of the others' makes an outlier, if it is over
    // min_latency besides: small times vary for small reasons. Needs two others with enough volume. 0: it
    // does not count. Least-loaded balancing needs it less than the others do.
    double max_latency_factor = 5;
    absl::Duration min_latency = absl::Milliseconds(10);

    // Never more than this share of the servers is ejected at one time, rounded down, and never the last one:
    // what is left has to carry the load, and if all are bad the fault is elsewhere. In [0, 1].
    double max_ejected_share = 0.5;

    // The first ejection lasts this long, each further one twice as long up to the second value; each is
    // spread at random by a fifth either way, so that clients do not come back at once. Restart ends one
    // early.
    absl::Duration base_ejection = absl::Seconds(2);
    absl::Duration max_ejection = absl::Minutes(1);
    // One ejection is forgotten for each such time in use.
    absl::Duration forgive_after = absl::Seconds(30);

    // A server that comes back, or is new in a list, has first_factor of its weight at first, and all of it
    // after this time, in equal steps. Zero: at once.
    absl::Duration ramp_time = absl::Seconds(2);
    double first_factor = 0.1;

    // How often to sweep.
    absl::Duration sweep_interval = absl::Seconds(1);
    // Of the ejection times; 0 takes one from the system.
    uint64_t seed = 0;
  };

  // What has changed for a server: a value.
  struct Change {
    uint64_t server;
    // Whether it is out of use.
    bool ejected;
    // What part of its weight it has: Candidate::weight_factor.
    double weight_factor;
    // Why it was ejected, with the value and the limit ("5 failures in a row, limit is 5"); empty otherwise.
    std::string reason;
  };

  // INVALID_ARGUMENT, naming the option, for one that is out of its bounds.
  static absl::Status Check(const Options& options);

  // REQUIRES: Check(options) is OK.
  explicit OutlierDetector(const Options& options);

  // There is a server, by an id of the caller's, which is not in use; it cannot be used yet. `ramp_up`: it is
  // new among others that carry the load, and will begin with a part of its weight.
  void Add(uint64_t server, std::shared_ptr<ServerLoad> load, bool ramp_up);

  // The server is gone. Does nothing if it is not there.
  void Remove(uint64_t server);

  // The server can be used (it is connected, and says that it serves) or cannot: it is then not ejected, but
  // counts among those that are out of use. One that can be used again ramps up; what was counted before no
  // longer counts, how often it was ejected does. is_ejected and weight_factor say how it is then: the next
  // sweep does not. Whether that was news; it is none if the server is not there.
  bool SetUsable(uint64_t server, bool usable, transport::Instant now);

  // Looks at all servers, and returns what has changed since the last time. Call it at next_sweep(), and at
  // once when a call makes IsDue true. O(n), or O(n log n) if latency counts.
  std::vector<Change> Sweep(transport::Instant now);

  // When there is something to do next.
  transport::Instant next_sweep() const { return next_sweep_; }

  // Whether a call's failure is the one by which its server is to be ejected; `failures_in_a_row` is what
  // ServerLoad::OnEnd returned. True for one call only in a row, so that in an outage not each call asks for
  // a sweep. Thread-safe: reads only what is constant.
  bool IsDue(uint32_t failures_in_a_row) const {
    return failures_in_a_row != 0 && failures_in_a_row == options_.failures_in_a_row;
  }

  // Whether a server has failed so often in a row. Thread-safe, as above.
  bool HasFailedInARow(const ServerLoad& load) const {
    return options_.failures_in_a_row != 0 && load.failures_in_a_row() >= options_.failures_in_a_row;
  }

  bool is_ejected(uint64_t server) const;
  double weight_factor(uint64_t server) const;
  size_t ejected() const { return ejected_; }
  // How often a server would have been ejected, had there not been so many already.
  uint64_t ejections_refused() const { return ejections_refused_; }
  const Options& options() const { return options_; }

 private:
  struct Counts {
    uint64_t successes = 0;
    uint64_t failures = 0;
    absl::Duration time_of_successes;
  };
  struct Snapshot {
    transport::Instant at;
    Counts counts;
  };
  struct Server {
    std::shared_ptr<ServerLoad> load;
    // The counts at earlier sweeps, the oldest first: one as old as the window or older, then younger ones.
    std::deque<Snapshot> history;
    bool usable = false;
    // Whether it begins with a part of its weight when it can be used next.
    bool ramp_up = false;
    bool ejected = false;
    // While ejected: when it comes back.
    transport::Instant back_at{};
    // While in use: since when its weight grows, and since when an ejection is being forgotten.
    transport::Instant ramps_since{};
    transport::Instant forgives_since{};
    int times_ejected = 0;
    double factor = 1;
    // What was last told.
    bool told_ejected = false;
    double told_factor = 1;
    std::string reason;
  };
  // Why a server is an outlier, and how bad it is: the worst go first.
  struct Verdict {
    Server* server;
    int kind;
    double badness;
    std::string reason;
  };

  static Counts CountsOf(const ServerLoad& load);
  Counts InWindow(const Server& server) const;
  void Remember(Server& server, transport::Instant now);
  void BeginAnew(Server& server, transport::Instant now, bool ramp_up);
  double FactorAt(const Server& server, transport::Instant now) const;
  std::vector<Verdict> FindOutliers(transport::Instant now);
  void JudgeLatencies(std::vector<Verdict>& verdicts);
  size_t MostEjected() const;
  void Eject(Verdict& verdict, transport::Instant now);
  transport::Instant NextLook(const Server& server, transport::Instant now) const;
  void Schedule(transport::Instant now);

  const Options options_;
  std::map<uint64_t, Server> servers_;
  size_t usable_ = 0;
  size_t ejected_ = 0;
  uint64_t ejections_refused_ = 0;
  transport::Instant next_sweep_ = transport::Instant::Infinite();
  std::mt19937_64 random_;
};

}  // namespace ferry

#endif  // FERRY_RPC_BALANCING_OUTLIER_DETECTOR_H_
