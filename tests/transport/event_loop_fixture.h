// What is told of events, in the tests of event loops.
#ifndef FERRY_TESTS_TRANSPORT_EVENT_LOOP_FIXTURE_H_
#define FERRY_TESTS_TRANSPORT_EVENT_LOOP_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "ferry/transport/event_loop.h"

namespace ferry::transport {

// A FunctionHandler calls a function for each event.
//
// Belongs to the loop that watches for it.
class FunctionHandler final : public EventLoop::Handler {
 public:
  explicit FunctionHandler(std::function<void(uint32_t)> f) : f_(std::move(f)) {}
  void OnEvents(uint32_t events) override { f_(events); }

 private:
  std::function<void(uint32_t)> f_;
};

// A FunctionHook calls a function at the end of the batch.
//
// Belongs to the loop that it is added to.
class FunctionHook final : public EventLoop::BatchHook {
 public:
  explicit FunctionHook(std::function<void()> f) : f_(std::move(f)) {}
  void OnEndOfBatch() override { f_(); }

 private:
  std::function<void()> f_;
};

}  // namespace ferry::transport

#endif  // FERRY_TESTS_TRANSPORT_EVENT_LOOP_FIXTURE_H_
