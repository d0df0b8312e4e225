// The threads that event loops run on.
#ifndef FERRY_TRANSPORT_LOOP_GROUP_H_
#define FERRY_TRANSPORT_LOOP_GROUP_H_

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"

namespace ferry::transport {

// A LoopGroup is a fixed number of event loops, each running on a thread of its own.
//
// Thread-safe. Destroying it stops the loops and waits for their threads; the loops are gone afterwards, with
// the tasks they had not run. It may be destroyed on one of its own loops' threads: that one finishes by
// itself when its batch has ended, and the loops last until then. In a process that was forked since, where
// its threads are not, destroying it does nothing: the loops stay for ever.
class LoopGroup {
 public:
  struct Options {
    // At least 1.
    size_t threads = 1;
    // Threads are called "<name>-0" and so on, cut to the 15 characters that Linux keeps.
    std::string name = "ferry-loop";
    // If not empty, thread i runs on processor cpus[i % cpus.size()] only.
    std::vector<int> cpus = {};
    // For how long each loop polls at most before it blocks; zero turns polling off.
    absl::Duration poll_time = absl::ZeroDuration();
    // Not owned.
    const Clock* clock = &Clock::Real();
    // Shared with others who want one pool for all; nullptr gives the group a pool of its own.
    std::shared_ptr<BufferPool> buffers = {};
  };

  // Starts the threads. They block all signals, so that these go to the application's own threads. An error
  // if there are no more descriptors or threads to be had, or a processor is none that the process may use.
  static absl::StatusOr<std::unique_ptr<LoopGroup>> Create(const Options& options);

  ~LoopGroup();
  LoopGroup(const LoopGroup&) = delete;
  LoopGroup& operator=(const LoopGroup&) = delete;

  // Stops the loops and waits for their threads. The loops stay, and drop what is posted to them: for objects
  // that may outlast the threads and still post. Does nothing the second time. REQUIRES: not called on a
  // thread of the group's.
  void Stop();

  size_t size() const;
  // REQUIRES: i < size().
  EventLoop& loop(size_t i) const;
  // The loops in turn.
  EventLoop& Next();

  BufferPool& buffers() const;

 private:
  // The loops and what they need, shared by the group and its threads.
  struct Loops;
  struct Thread;

  explicit LoopGroup(std::shared_ptr<Loops> loops);

  static void* RunThread(void* thread);
  absl::Status StartThread(size_t index, const Options& options);
  void StopThreads();
  bool forked() const;

  const std::shared_ptr<Loops> loops_;
  std::vector<pthread_t> threads_;  // complete when Create returns, empty after Stop
  std::atomic<size_t> next_{0};     // relaxed: it only spreads work
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_LOOP_GROUP_H_
