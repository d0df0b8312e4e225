// What a case of the conformance table has found wrong.
#ifndef FERRY_TESTS_CONFORMANCE_FINDINGS_H_
#define FERRY_TESTS_CONFORMANCE_FINDINGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry::test::conformance {

// A Findings is a list of expectations that did not hold; a case goes on after one.
//
// Thread-compatible.
class Findings {
 public:
  // `what` is to hold: "the reply is empty".
  void Expect(bool holds, absl::string_view what) {
    if (!holds) all_.emplace_back(absl::StrCat("not true: ", what));
  }

  // `what` names the value: "code".
  template <typename Actual, typename Expected>
  void ExpectEqual(const Actual& actual, const Expected& expected, absl::string_view what) {
    if (actual == expected) return;
    all_.push_back(absl::StrCat(what, " is ", actual, " instead of ", expected));
  }

  // The same for statuses, with their payloads.
  void ExpectStatus(const absl::Status& actual, const absl::Status& expected, absl::string_view what) {
    if (actual == expected) return;
    all_.push_back(absl::StrCat(what, " ends with ", actual.ToString(), " instead of ", expected.ToString()));
  }
  void ExpectOk(const absl::Status& actual, absl::string_view what) {
    ExpectStatus(actual, absl::OkStatus(), what);
  }

  // The text's distinctive part is enough.
  void ExpectError(const absl::Status& actual, absl::StatusCode code, absl::string_view part,
                   absl::string_view what) {
    if (actual.code() == code && absl::StrContains(actual.message(), part)) return;
    all_.push_back(absl::StrCat(what, " ends with ", actual.ToString(), " instead of ",
                                absl::StatusCodeToString(code), ": ...", part, "..."));
  }

  const std::vector<std::string>& all() const { return all_; }

 private:
  std::vector<std::string> all_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_FINDINGS_H_
