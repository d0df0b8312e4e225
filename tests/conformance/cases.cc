#include "tests/conformance/cases.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace ferry::test::conformance {
namespace {

// A Watchdog ends the process if it is not destroyed in time: what hangs cannot be gone on from.
class Watchdog {
 public:
  explicit Watchdog(std::string what) : thread_([this, what = std::move(what)] { Watch(what); }) {}
  ~Watchdog() {
    done_.Notify();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  // Longer than the slowest cell takes under a sanitizer on a busy machine.
  static constexpr absl::Duration kTooLong = absl::Minutes(4);

  void Watch(const std::string& what) {
    if (done_.WaitForNotificationWithTimeout(kTooLong)) return;
    std::fprintf(stderr, "%s hangs\n", what.c_str());
    std::abort();
  }

  absl::Notification done_;
  std::thread thread_;
};

}  // namespace

std::vector<Case> AllCases() {
  std::vector<Case> all;
  for (std::vector<Case> (*cases)() :
       {UnaryCases, StreamCases, MetadataCases, StatusCases, EndingCases, BadServerCases, BadClientCases}) {
    std::vector<Case> some = cases();
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  }
  return all;
}

std::vector<std::string> RunCase(const Case& one, const Mode& mode, Scale scale) {
  const Watchdog watchdog(std::string(one.name) + " in " + mode.name());
  Findings findings;
  if (one.scripted != nullptr) {
    one.scripted(mode, findings);
  } else {
    Fixture fixture(mode, scale);
    one.served(fixture, findings);
    fixture.ExpectHealthy(findings);
  }
  return findings.all();
}

}  // namespace ferry::test::conformance
