// What can be measured without further packages.
#ifndef FERRY_BENCHMARKS_IMPLEMENTATIONS_H_
#define FERRY_BENCHMARKS_IMPLEMENTATIONS_H_

#include "ferry/benchmarks/implementation.h"

namespace ferry::bench {

// Ferry and the floor, each in its variants. README.md says what they are.
Implementations OwnImplementations();

}  // namespace ferry::bench

#endif  // FERRY_BENCHMARKS_IMPLEMENTATIONS_H_
