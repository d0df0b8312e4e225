// Many schedules, one after the other, and what they held.
#ifndef FERRY_TESTS_SIMULATION_SIMULATION_H_
#define FERRY_TESTS_SIMULATION_SIMULATION_H_

#include <cstdint>
#include <iosfwd>
#include <string>

#include "tests/simulation/world.h"

namespace ferry::simulation {

// Schedule i of a simulation has the seed `seed` + i, and can be had again alone by that.
struct Options {
  uint64_t schedules = 1;
  uint64_t seed = 1;
  // Every event is written.
  bool trace = false;
};

// A Summary is what all schedules held together.
struct Summary {
  uint64_t schedules = 0;
  // Of all; its complaints are those of the schedule that failed.
  Outcome total;
  // The seed of the schedule that failed, or else of the one that took the most rounds to settle after its
  // last event: the one that came closest to a call that hangs.
  uint64_t worst_seed = 0;
  int worst_rounds = -1;
  bool failed = false;
};

// Runs schedules until one fails. Writes traces and what went wrong to `out`. A crash writes the seed to
// standard error.
Summary Simulate(const Options& options, std::ostream& out);

// The command that runs one schedule again.
std::string ReplayCommand(uint64_t seed);

// Writes a table of what the schedules held.
void WriteSummary(const Summary& summary, std::ostream& out);

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_SIMULATION_H_
