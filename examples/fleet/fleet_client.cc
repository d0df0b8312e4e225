// Keeps calling the greeters that are registered in etcd, and shows how that goes, until SIGTERM or SIGINT.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "examples/greeter/greeter.ferry.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/names/etcd_options.h"
#include "ferry/rpc/names/etcd_resolver.h"
#include "ferry/rpc/names/target.h"
#include "ferry/rpc/shutdown_signal.h"

namespace {

using examples::greeter::GreeterStub;
using examples::greeter::GreetReply;
using examples::greeter::GreetRequest;

// A Tally is how the calls went.
struct Tally {
  std::atomic<size_t> answered{0};
  std::atomic<size_t> failed{0};
  absl::Mutex mutex;
  std::string last_error ABSL_GUARDED_BY(mutex);
};

// Makes one call after the other until `stopping`.
void KeepCalling(ferry::Channel& channel, const std::atomic<bool>& stopping, Tally& tally) {
  GreeterStub stub(channel);
  GreetRequest request;
  request.set_name("fleet");
  while (!stopping.load()) {
    const absl::StatusOr<GreetReply> reply = stub.Greet(request, {.timeout = absl::Seconds(2)});
    if (reply.ok()) {
      tally.answered.fetch_add(1);
      continue;
    }
    tally.failed.fetch_add(1);
    {
      absl::MutexLock lock(&tally.mutex);
      tally.last_error = reply.status().ToString();
    }
    // Nobody is there: asking more often does not help.
    absl::SleepFor(absl::Milliseconds(100));
  }
}

// One line, written over and over.
void Show(const ferry::Channel& channel, const std::atomic<bool>& stopping, Tally& tally) {
  constexpr absl::Duration kInterval = absl::Milliseconds(500);
  size_t before = 0;
  while (!stopping.load()) {
    absl::SleepFor(kInterval);
    const size_t answered = tally.answered.load();
    const ferry::Channel::ServerCounts servers = channel.server_counts();
    absl::MutexLock lock(&tally.mutex);
    std::printf("\r\x1b[K%8.0f calls/s, %zu of %zu servers, %zu failed  %s",
                static_cast<double>(answered - before) / absl::ToDoubleSeconds(kInterval), servers.usable,
                servers.servers, tally.failed.load(), tally.last_error.c_str());
    std::fflush(stdout);
    before = answered;
  }
  std::printf("\n%zu calls answered, %zu failed\n", tally.answered.load(), tally.failed.load());
}

}  // namespace

int main(int argc, char** argv) {
  // Before any thread is made.
  ferry::ShutdownSignal stop;
  ferry::EtcdOptions etcd;
  if (argc > 1) etcd.endpoints = {argv[1]};

  ferry::ChannelOptions options;
  options.names.etcd = [etcd](const ferry::Target& target, auto& loop) {
    return ferry::NewEtcdResolver(loop, target.name, etcd);
  };
  const absl::StatusOr<std::unique_ptr<ferry::Channel>> channel =
      ferry::Channel::Create("etcd:///greeter", options);
  if (!channel.ok()) {
    std::fprintf(stderr, "%s\n", channel.status().ToString().c_str());
    return EXIT_FAILURE;
  }
  std::atomic<bool> stopping{false};
  Tally tally;
  constexpr int kCallers = 4;
  std::vector<std::thread> threads;
  threads.reserve(kCallers + 1);
  for (int i = 0; i < kCallers; ++i) threads.emplace_back([&] { KeepCalling(**channel, stopping, tally); });
  threads.emplace_back([&] { Show(**channel, stopping, tally); });

  stop.Wait();
  stopping = true;
  for (std::thread& thread : threads) thread.join();
  return EXIT_SUCCESS;
}
