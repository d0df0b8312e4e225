#include "ferry/transport/fork_guard.h"

#include <sys/wait.h>
#include <unistd.h>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

// Whether `check` answers true in a process forked from this one.
bool HoldsInFork(absl::FunctionRef<bool()> check) {
  const pid_t child = fork();
  if (child == 0) _exit(check() ? 0 : 1);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status == 0;
}

TEST(ForkGuardTest, TellsAProcessFromItsForks) {
  const ForkGuard guard;
  EXPECT_FALSE(guard.forked());
  EXPECT_TRUE(HoldsInFork([&] {
    const ForkGuard own;
    return guard.forked() && !own.forked() &&
           HoldsInFork([&] { return guard.forked() && own.forked() && !ForkGuard().forked(); });
  }));
  EXPECT_FALSE(guard.forked());
}

TEST(ForkGuardTest, NamesBothProcesses) {
  const ForkGuard guard;
  const pid_t parent = getpid();
  EXPECT_TRUE(HoldsInFork([&] {
    return guard.Error("channel") == absl::FailedPreconditionError(absl::StrCat(
                                         "the channel was created in process ", parent, ", this is process ",
                                         getpid(), ": create channels after fork"));
  }));
}

}  // namespace
}  // namespace ferry::transport
