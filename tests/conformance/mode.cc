#include "tests/conformance/mode.h"

#include "absl/strings/str_cat.h"

namespace ferry::test::conformance {

const char* Name(Transport transport) {
  switch (transport) {
    case Transport::kTcp:
      return "Tcp";
    case Transport::kUnix:
      return "Unix";
    case Transport::kOneByte:
      return "OneByte";
  }
  return "";
}

const char* Name(Execution execution) { return execution == Execution::kInline ? "Inline" : "Executor"; }

const char* Name(Form form) {
  switch (form) {
    case Form::kBlocking:
      return "Blocking";
    case Form::kCallback:
      return "Callback";
    case Form::kCoroutine:
      return "Coroutine";
  }
  return "";
}

std::string Mode::name() const { return absl::StrCat(Name(transport), Name(execution), Name(form)); }

std::vector<Mode> AllModes() {
  std::vector<Mode> modes;
  modes.reserve(18);
  for (const Transport transport : {Transport::kTcp, Transport::kUnix, Transport::kOneByte}) {
    for (const Execution execution : {Execution::kInline, Execution::kExecutor}) {
      for (const Form form : {Form::kBlocking, Form::kCallback, Form::kCoroutine}) {
        modes.push_back({transport, execution, form});
      }
    }
  }
  return modes;
}

}  // namespace ferry::test::conformance
