// What a scenario promises, and whether it was kept.
#ifndef FERRY_TESTS_SCENARIOS_PROMISES_H_
#define FERRY_TESTS_SCENARIOS_PROMISES_H_

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace ferry::scenarios {

// Promises are a table: what was promised, what was seen, and whether that is the same.
//
// Thread-compatible.
class Promises {
 public:
  // What a promise is of. How long something takes may be anything on a machine that is busy with other
  // things; the rest may not.
  enum class Of { kFact, kTime };

  void Add(std::string what, std::string limit, std::string seen, bool kept, Of of = Of::kFact);
  // That something takes at most `limit`. What never ends (infinite) breaks that on any machine.
  void AddTime(std::string what, absl::Duration limit, absl::Duration seen);

  // Writes the table; whether every promise was kept, or is one of time and these do not count.
  bool Write(std::ostream& out, std::string_view title, bool time_counts) const;

 private:
  struct Promise {
    std::string what;
    std::string limit;
    std::string seen;
    bool kept;
    Of of;
  };

  std::vector<Promise> promises_;
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_PROMISES_H_
