#include <netdb.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/benchmarks/floor_wire.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/benchmarks/now.h"

namespace ferry::bench {
namespace {

void LookUp(const char* name, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  if (getaddrinfo(name, "80", &hints, &found) == 0) freeaddrinfo(found);
}

// How long the first look-up of a process takes: in a child, which has not read the system's settings yet.
int64_t TimeFirst() {
  int ends[2];
  OrDie(pipe(ends), "pipe");
  const pid_t child = OrDie(fork(), "fork");
  if (child == 0) {
    const int64_t start = NowNanos();
    LookUp("localhost", 0);
    const int64_t took = NowNanos() - start;
    [[maybe_unused]] const ssize_t written = write(ends[1], &took, sizeof(took));
    _exit(0);
  }
  int64_t took = 0;
  OrDie(static_cast<int>(read(ends[0], &took, sizeof(took))), "read from a pipe");
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
  return took;
}

}  // namespace

// Nothing is asked over a network, which these benchmarks do without: a name server's answer would come on
// top of "cold".
Rungs NameRungs(const LadderOptions& options) {
  return {
      MeasureTimed("name look-up, cold",
                   "getaddrinfo(localhost), a process's first: /etc/hosts, no name server", options,
                   TimeFirst),
      Measure("name look-up, again", "the same once more: /etc/hosts is read anew, the settings are not",
              options, [] { LookUp("localhost", 0); }),
      Measure("number look-up", "getaddrinfo(127.0.0.1)", options,
              [] { LookUp("127.0.0.1", AI_NUMERICHOST); }),
  };
}

}  // namespace ferry::bench
