// What became of calls, and what that says of promises.
#ifndef FERRY_TESTS_SCENARIOS_RESULTS_H_
#define FERRY_TESTS_SCENARIOS_RESULTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace ferry::scenarios {

// A Result is how one call went.
struct Result {
  // When it was to be made, and when it was, since the load's beginning; how long it took from the former on.
  absl::Duration due;
  absl::Duration sent;
  absl::Duration took;
  // The server that answered, empty if the call failed, and which attempt it answered.
  std::string server;
  int attempt = 0;
  absl::Status status;
};

// A Loss is a server that was gone for a while, while all others were there.
struct Loss {
  // What its answers name, and the address that clients know it by.
  std::string server;
  std::string address;
  // Since the load's beginning.
  absl::Duration from;
  absl::Duration to;
  // Within which time from then on a client must have noticed.
  absl::Duration notice;
};

// What was so for `last` of the loss: infinite if that is to its end, or into its last twentieth.
absl::Duration ForeverIfToTheEnd(absl::Duration last, const Loss& loss);

// The calls that went to a lost server: it had them when it was lost, or got them in the meantime. They have
// failed with it, or were answered by it when it was back, or were sent again: an answer to a second attempt
// tells of a first one, and that went nowhere else, for all other servers were there.
struct Astray {
  size_t calls = 0;
  // When the last of them was made, since the loss; zero if none was made after it, infinite if they have
  // gone on to its end.
  absl::Duration last;
};
Astray SentToLost(const std::vector<Result>& results, const Loss& loss);

// How many failed calls no loss excuses. It excuses those that were in flight on the lost server, made before
// the loss must have been noticed, and ended after it; and that say so, and that they may have been executed.
size_t UnexcusedFailures(const std::vector<Result>& results, const std::vector<Loss>& losses);

// The share of the calls made in [from, to) that `server` has answered; zero if there were none.
double ShareOf(const std::vector<Result>& results, std::string_view server, absl::Duration from,
               absl::Duration to);

// Whether a share is that of one of so many servers. Calls are spread at random and by what each server
// takes, so it is no less than four fifths of it.
bool IsFairShare(double share, int servers);

// The time that 99 % of the calls due in [from, to) took at most; infinite if there were none.
absl::Duration P99(const std::vector<Result>& results, absl::Duration from, absl::Duration to);

// That of the median second in [from, to), of which there is at least one: a machine that stops for a moment
// says nothing of the calls.
absl::Duration MedianP99(const std::vector<Result>& results, absl::Duration from, absl::Duration to);

// Whether a p99 is at most twice another, which was seen.
bool IsWithinTwice(absl::Duration p99, absl::Duration other);

// How many of the times at most lie within `window` of one another.
size_t MostWithin(std::vector<absl::Duration> times, absl::Duration window);

// A SteadyNumber is one that is not to change, looked at again and again.
//
// A value.
class SteadyNumber {
 public:
  void Add(int64_t seen);

  // Whether it was looked at, and always the same.
  bool steady() const { return looks_ > 0 && least_ == most_; }
  int64_t first() const { return first_; }
  // "7", or "7 to 9", or "nobody has looked".
  std::string seen() const;

 private:
  size_t looks_ = 0;
  int64_t first_ = 0;
  int64_t least_ = 0;
  int64_t most_ = 0;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_RESULTS_H_
