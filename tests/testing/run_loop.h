// Running an EventLoop on the test's own thread.
#ifndef FERRY_TESTS_TESTING_RUN_LOOP_H_
#define FERRY_TESTS_TESTING_RUN_LOOP_H_

#include <cstdlib>
#include <iostream>
#include <memory>
#include <utility>

#include "ferry/transport/event_loop.h"

namespace ferry::test {

// A loop that nobody runs yet.
inline std::unique_ptr<transport::EventLoop> NewLoop(const transport::EventLoop::Options& options = {}) {
  auto loop = transport::EventLoop::Create(options);
  if (!loop.ok()) {
    std::cerr << loop.status() << std::endl;
    std::abort();
  }
  return *std::move(loop);
}

// Runs `f` on the loop, here and now, and then what follows from it.
template <typename F>
void RunIn(transport::EventLoop& loop, F f) {
  loop.Post([&f] { f(); });
  loop.RunUntilIdle();
}

// Runs the loop until `done()` is true: bytes in a socket take the time the kernel takes. A test that waits
// in vain ends by Bazel's timeout.
template <typename F>
void RunUntil(transport::EventLoop& loop, F done) {
  loop.RunUntilIdle();
  while (!done()) loop.RunUntilIdle();
}

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_RUN_LOOP_H_
