#include "ferry/benchmarks/served.h"

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ferry::bench {

absl::StatusOr<std::unique_ptr<Served>> Served::Start(const std::string& implementation, Transport transport,
                                                      bool one_processor) {
  const char* parent = getenv("TMPDIR");
  std::string directory = absl::StrCat(parent == nullptr ? "/tmp" : parent, "/ferry-load-XXXXXX");
  if (mkdtemp(directory.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", directory));
  }
  std::unique_ptr<Served> served(new Served(directory));
  const std::string address =
      transport == Transport::kUnix ? absl::StrCat("unix:", directory, "/echo") : "127.0.0.1:0";
  absl::StatusOr<std::unique_ptr<ServerProcess>> process = ServerProcess::Start(
      {"--role=server", absl::StrCat("--impl=", implementation), absl::StrCat("--listen=", address),
       absl::StrCat("--one_processor=", one_processor ? "true" : "false")});
  if (!process.ok()) return process.status();
  served->process_ = *std::move(process);
  return served;
}

Served::~Served() {
  process_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace ferry::bench
