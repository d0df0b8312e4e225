// The columns of the conformance table.
#ifndef FERRY_TESTS_CONFORMANCE_MODE_H_
#define FERRY_TESTS_CONFORMANCE_MODE_H_

#include <string>
#include <vector>

namespace ferry::test::conformance {

enum class Transport {
  kTcp,
  kUnix,
  // Memory, of which either side reads one byte at a time.
  kOneByte,
};

// Where the server's handlers run.
enum class Execution { kInline, kExecutor };

// How the client calls and the server's handlers are written. A handler must not wait on an event loop, so
// those that wait have the callback form there.
enum class Form { kBlocking, kCallback, kCoroutine };

// A Mode is one column: a value.
struct Mode {
  Transport transport;
  Execution execution;
  Form form;

  // "TcpInlineBlocking".
  std::string name() const;
};

const char* Name(Transport transport);
const char* Name(Execution execution);
const char* Name(Form form);

// How much an expensive case does.
enum class Scale {
  kShort,  // for every run of the tests
  kWhole,
};

// All of them, in the table's order.
std::vector<Mode> AllModes();

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_MODE_H_
