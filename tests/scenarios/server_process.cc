#include "tests/scenarios/server_process.h"

#include <signal.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "ferry/transport/check.h"

namespace ferry::scenarios {
namespace {

// Longer than starting takes.
constexpr absl::Duration kPatience = absl::Seconds(60);

}  // namespace

ServerProcess::ServerProcess(std::string program, std::vector<std::string> addresses,
                             std::vector<std::string> arguments)
    : program_(std::move(program)), arguments_(std::move(arguments)), addresses_(std::move(addresses)) {
  Start();
}

void ServerProcess::Start() {
  std::vector<std::string> arguments = arguments_;
  arguments.push_back(absl::StrCat("--addresses=", absl::StrJoin(addresses_, ",")));
  process_.emplace(program_, arguments);
  const std::optional<std::string> line = process_->ReadLine(kPatience);
  FERRY_CHECK(line.has_value(), absl::StrCat(program_, " does not listen on ", addresses_.front()).c_str());
  addresses_ = absl::StrSplit(*line, ',');
}

void ServerProcess::Kill() { process_->End(SIGKILL); }
void ServerProcess::Terminate() { process_->End(SIGTERM); }
void ServerProcess::Freeze() { process_->Signal(SIGSTOP); }
void ServerProcess::Thaw() { process_->Signal(SIGCONT); }
void ServerProcess::StartAgain() { Start(); }

}  // namespace ferry::scenarios
