// The load program, whatever it compares.
#ifndef FERRY_BENCHMARKS_LOAD_MAIN_H_
#define FERRY_BENCHMARKS_LOAD_MAIN_H_

#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// What main does: measures calls between this process and a server process, which is this program again, and
// prints what they cost. Returns the exit status.
int LoadMain(int argc, char** argv, const Implementations& known);

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_LOAD_MAIN_H_
