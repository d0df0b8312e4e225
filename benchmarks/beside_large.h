// Small calls while a large message is under way on their connection.
#ifndef FERRY_BENCHMARKS_BESIDE_LARGE_H_
#define FERRY_BENCHMARKS_BESIDE_LARGE_H_

#include "absl/status/status.h"
#include "benchmarks/echo.ferry.h"
#include "ferry/benchmarks/implementation.h"
#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

// Calls over `stub`'s one connection in the blocking form: small ones alone, then ones of one fragment alone,
// which the meter is told of; and then, until the meter says to stop, small ones while another thread calls
// with messages of 64 MiB, one after the other, in the direction that `work` says. REQUIRES: work.beside is
// not kNothing.
absl::Status RunBesideLarge(EchoStub& stub, const Work& work, Meter& meter);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_BESIDE_LARGE_H_
