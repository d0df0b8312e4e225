// The annotated captures of rpc/PROTOCOL.md, for tests.
#ifndef FERRY_TESTS_TESTING_CAPTURE_H_
#define FERRY_TESTS_TESTING_CAPTURE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ferry/rpc/wire.h"

namespace ferry::test {

// A CaptureRecord is one thing that one side did, as the document has it: a value.
struct CaptureRecord {
  // Of its first line in the document, for messages.
  int line = 0;
  Side sender = Side::kClient;
  // "PREFACE", "EOF", or a frame type such as "REQUEST".
  std::string name = {};
  // What the first line says of the header: "length" to "19", "flags" to "END_STREAM|MORE" and so on.
  std::map<std::string, std::string> fields = {};
  std::string bytes = {};
  // The head in protobuf's text form; empty if there is none.
  std::string head = {};

  bool is_frame() const { return name != "PREFACE" && name != "EOF"; }
  // The value of a field, 0 if the record does not have it. A prefix 0x makes it hexadecimal.
  uint64_t Number(const std::string& field) const;
};

// rpc/PROTOCOL.md, which the test must have as a data dependency.
absl::StatusOr<std::string> ReadProtocolDocument();

// The records of the document's block ```ferry-capture `block`. An error, with the line, if there is no such
// block or it is malformed.
absl::StatusOr<std::vector<CaptureRecord>> ParseCapture(absl::string_view document, absl::string_view block);

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_CAPTURE_H_
