#include "ferry/transport/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "ferry/transport/check.h"

namespace ferry::transport {

ForkGuard::ForkGuard() : process_(getpid()) {
  // Once for all guards, and never taken back.
  static const int failed = pthread_atfork(nullptr, nullptr, &OnForked);
  FERRY_CHECK(failed == 0, "no memory for a fork handler");
  generation_ = current_.load(std::memory_order_relaxed);
}

// In the child, where there is no other thread.
void ForkGuard::OnForked() { current_.fetch_add(1, std::memory_order_relaxed); }

absl::Status ForkGuard::Error(std::string_view what) const {
  const std::string name(what);
  return absl::FailedPreconditionError(absl::StrCat("the ", name, " was created in process ", process_,
                                                    ", this is process ", getpid(), ": create ", name,
                                                    "s after fork"));
}

}  // namespace ferry::transport
