// Every cell of the conformance table is a test: LargeUnary.TcpInlineBlocking.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/mode.h"

namespace ferry::test::conformance {
namespace {

class CellTest : public testing::Test {
 public:
  CellTest(const Case& one, const Mode& mode) : case_(one), mode_(mode) {}

  void TestBody() override {
    for (const std::string& finding : RunCase(case_, mode_, Scale::kShort)) ADD_FAILURE() << finding;
  }

 private:
  const Case case_;
  const Mode mode_;
};

void RegisterCells() {
  for (const Case& one : AllCases()) {
    for (const Mode& mode : AllModes()) {
      if (!one.applies_to(mode)) continue;
      testing::RegisterTest(one.name, mode.name().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [one, mode]() -> testing::Test* { return new CellTest(one, mode); });
    }
  }
}

}  // namespace
}  // namespace ferry::test::conformance

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  ferry::test::conformance::RegisterCells();
  return RUN_ALL_TESTS();
}
