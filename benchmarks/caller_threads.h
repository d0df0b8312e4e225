// Calls in the blocking form, by one thread or by many.
#ifndef FERRY_BENCHMARKS_CALLER_THREADS_H_
#define FERRY_BENCHMARKS_CALLER_THREADS_H_

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "ferry/benchmarks/meter.h"

namespace ferry::bench {

// Makes one call and waits for its end.
using BlockingEcho = absl::AnyInvocable<absl::Status()>;

// Calls from `threads` threads at once, each with what `new_call` gave it, until `meter` has had enough; the
// calling thread is one of them, and the one that `meter` hears. Returns the first error, if there was one.
absl::Status RunCallers(int threads, Meter& meter, absl::FunctionRef<BlockingEcho()> new_call);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_CALLER_THREADS_H_
