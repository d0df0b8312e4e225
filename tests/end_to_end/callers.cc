#include "tests/end_to_end/callers.h"

#include <cstddef>
#include <utility>

namespace ferry::test::e2e {

Callers::Callers(int threads, std::function<absl::Status(uint64_t)> call) : call_(std::move(call)) {
  threads_.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

Callers::~Callers() { Stop().IgnoreError(); }

absl::Status Callers::Stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  absl::MutexLock lock(&mutex_);
  return failure_;
}

void Callers::Run() {
  for (uint64_t number = 1; !stop_.load(); ++number) {
    const absl::Status status = call_(number);
    absl::MutexLock lock(&mutex_);
    failure_.Update(status);
  }
}

}  // namespace ferry::test::e2e
