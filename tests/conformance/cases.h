// The rows of the conformance table.
#ifndef FERRY_TESTS_CONFORMANCE_CASES_H_
#define FERRY_TESTS_CONFORMANCE_CASES_H_

#include <string>
#include <vector>

#include "tests/conformance/findings.h"
#include "tests/conformance/fixture.h"
#include "tests/conformance/mode.h"

namespace ferry::test::conformance {

// A Case is one row. It has one of the two functions.
struct Case {
  // In CamelCase.
  const char* name;
  // With a server and a client.
  void (*served)(Fixture& fixture, Findings& findings) = nullptr;
  // With a client whose server is scripted: how the server runs its handlers is of no meaning.
  void (*scripted)(const Mode& mode, Findings& findings) = nullptr;

  bool applies_to(const Mode& mode) const {
    return served != nullptr || mode.execution == Execution::kInline;
  }
};

// All of them, in the table's order.
std::vector<Case> AllCases();

// Runs one cell and returns what is wrong. Dies, naming the cell, if it hangs. REQUIRES: the case applies to
// the mode.
std::vector<std::string> RunCase(const Case& one, const Mode& mode, Scale scale);

// Those of each source file.
std::vector<Case> UnaryCases();
std::vector<Case> StreamCases();
std::vector<Case> MetadataCases();
std::vector<Case> StatusCases();
std::vector<Case> EndingCases();
std::vector<Case> BadServerCases();
std::vector<Case> BadClientCases();

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_CASES_H_
