#include "tests/scenarios/promises.h"

#include <algorithm>
#include <cstddef>
#include <iomanip>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ferry::scenarios {
namespace {

// What is longer, as an error's text, does not widen its column.
constexpr size_t kMostSeen = 30;

}  // namespace

void Promises::Add(std::string what, std::string limit, std::string seen, bool kept, Of of) {
  promises_.push_back({std::move(what), std::move(limit), std::move(seen), kept, of});
}

void Promises::AddTime(std::string what, absl::Duration limit, absl::Duration seen) {
  const auto text = [](absl::Duration d) { return absl::StrFormat("%.2f s", absl::ToDoubleSeconds(d)); };
  const bool ends = seen != absl::InfiniteDuration();
  Add(std::move(what), absl::StrCat("<= ", text(limit)), ends ? text(seen) : "never", seen <= limit,
      ends ? Of::kTime : Of::kFact);
}

bool Promises::Write(std::ostream& out, std::string_view title, bool time_counts) const {
  size_t what_width = title.size();
  size_t limit_width = 8;
  size_t seen_width = 4;
  for (const Promise& promise : promises_) {
    what_width = std::max(what_width, promise.what.size());
    limit_width = std::max(limit_width, promise.limit.size());
    seen_width = std::max(seen_width, std::min(promise.seen.size(), kMostSeen));
  }
  const auto line = [&](std::string_view what, std::string_view limit, std::string_view seen) -> auto& {
    const auto cell = [](size_t width) { return std::setw(static_cast<int>(width)); };
    return out << std::left << cell(what_width) << what << "  " << cell(limit_width) << limit << "  "
               << cell(seen_width) << seen << "  ";
  };
  line(title, "promised", "seen") << "\n";
  bool all = true;
  for (const Promise& promise : promises_) {
    const bool counts = time_counts || promise.of != Of::kTime;
    line(promise.what, promise.limit, promise.seen) << (promise.kept ? "kept"
                                                        : counts     ? "BROKEN"
                                                                     : "not kept (time does not count here)")
                                                    << "\n";
    all = all && (promise.kept || !counts);
  }
  out << std::flush;
  return all;
}

}  // namespace ferry::scenarios
