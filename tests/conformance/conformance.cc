// Runs the conformance table and prints it: a row for each case, a column for each mode. Ends with "N passed,
// N failed", and fails if a cell did.
//
//   conformance [WORD...]   only the cases whose names have one of the words in them
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/mode.h"

namespace ferry::test::conformance {
namespace {

constexpr int kNameWidth = 26;
constexpr int kCellWidth = 5;

struct Totals {
  int passed = 0;
  int failed = 0;
  // What the failed cells found, for the table's end.
  std::vector<std::string> findings;
};

// A line of the head: `name` of each mode, once where neighbours have the same.
template <typename F>
void PrintHead(const std::vector<Mode>& modes, F name) {
  std::string line;
  absl::string_view before;
  for (size_t i = 0; i < modes.size(); ++i) {
    const absl::string_view next = name(modes[i]);
    if (next == before) continue;
    line.resize(kNameWidth + i * (kCellWidth + 1), ' ');
    absl::StrAppend(&line, " ", next);
    before = next;
  }
  std::printf("%s\n", line.c_str());
}

// What fits a cell.
const char* ShortName(Form form) {
  switch (form) {
    case Form::kBlocking:
      return "block";
    case Form::kCallback:
      return "call";
    case Form::kCoroutine:
      return "coro";
  }
  return "";
}

void PrintRow(const Case& one, const std::vector<Mode>& modes, Totals& totals) {
  std::printf("%-*s", kNameWidth, one.name);
  for (const Mode& mode : modes) {
    const char* cell = "-";
    if (one.applies_to(mode)) {
      const std::vector<std::string> findings = RunCase(one, mode, Scale::kWhole);
      cell = findings.empty() ? "ok" : "FAIL";
      ++(findings.empty() ? totals.passed : totals.failed);
      for (const std::string& finding : findings) {
        totals.findings.push_back(absl::StrCat(one.name, " in ", mode.name(), ": ", finding));
      }
    }
    std::printf(" %-*s", kCellWidth, cell);
    std::fflush(stdout);
  }
  std::printf("\n");
}

bool IsWanted(absl::string_view name, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (absl::StrContains(name, word)) return true;
  }
  return words.empty();
}

int Main(const std::vector<std::string>& words) {
  const std::vector<Mode> modes = AllModes();
  PrintHead(modes, [](const Mode& mode) { return Name(mode.transport); });
  PrintHead(modes, [](const Mode& mode) { return Name(mode.execution); });
  PrintHead(modes, [](const Mode& mode) { return ShortName(mode.form); });
  Totals totals;
  for (const Case& one : AllCases()) {
    if (IsWanted(one.name, words)) PrintRow(one, modes, totals);
  }
  for (const std::string& finding : totals.findings) std::printf("%s\n", finding.c_str());
  std::printf("%d passed, %d failed\n", totals.passed, totals.failed);
  return totals.failed == 0 && totals.passed > 0 ? 0 : 1;
}

}  // namespace
}  // namespace ferry::test::conformance

int main(int argc, char** argv) {
  return ferry::test::conformance::Main(std::vector<std::string>(argv + 1, argv + argc));
}
