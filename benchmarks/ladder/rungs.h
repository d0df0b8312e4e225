// The rungs of the ladder, from the bottom up.
#ifndef FERRY_BENCHMARKS_LADDER_RUNGS_H_
#define FERRY_BENCHMARKS_LADDER_RUNGS_H_

#include "ferry/benchmarks/ladder/rung.h"

namespace ferry::bench {

// Entering the kernel, reading the clock.
Rungs KernelRungs(const LadderOptions& options);
// Waking another thread, handing it something.
Rungs WakeRungs(const LadderOptions& options);
// There and back through sockets, and connecting them.
Rungs SocketRungs(const LadderOptions& options);
// TLS 1.3 handshakes.
Rungs TlsRungs(const LadderOptions& options);
// Looking names up.
Rungs NameRungs(const LadderOptions& options);
// The load program's message.
Rungs MessageRungs(const LadderOptions& options);
// One call through Ferry.
Rungs CallRungs(const LadderOptions& options);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LADDER_RUNGS_H_
