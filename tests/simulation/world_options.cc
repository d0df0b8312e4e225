// What a simulated world's clients, servers and calls are like.
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "ferry/rpc/wire.h"
#include "tests/simulation/world.h"

namespace ferry::simulation {

Host::Options World::NewHostOptions(size_t place) {
  Host::Options options;
  options.place = place;
  options.settings.features = kStreamingFeature | (dice_.Chance(90) ? kFlowControlFeature : 0);
  options.settings.initial_stream_window = static_cast<uint32_t>(dice_.OneOf({64 * 1024, 1024 * 1024}));
  options.settings.initial_connection_window =
      static_cast<uint32_t>(dice_.OneOf({64 * 1024, 16 * 1024 * 1024}));
  options.streams_inline = dice_.Chance(50);
  options.seed = dice_.Next();
  options.kept = dice_.OneOf({0, 30, 100});
  if (dice_.Chance(15)) options.settings.max_streams = static_cast<uint32_t>(dice_.Between(2, 6));
  if (dice_.Chance(10)) options.executor_capacity = dice_.Between(0, 3);
  if (dice_.Chance(10)) options.max_request_bytes_per_connection = 100'000;
  if (dice_.Chance(5)) options.max_reply_bytes_per_connection = 10'000;
  const Host::Options usual;
  ledger_.excuses.limits |=
      options.settings.max_streams < usual.settings.max_streams ||
      options.executor_capacity < usual.executor_capacity ||
      options.max_request_bytes_per_connection < usual.max_request_bytes_per_connection ||
      options.max_reply_bytes_per_connection < usual.max_reply_bytes_per_connection;
  return options;
}

Endpoint::Options World::NewCallerOptions() {
  Endpoint::Options options;
  options.session.settings.features = kFlowControlFeature | kStreamingFeature;
  options.session.settings.initial_stream_window =
      static_cast<uint32_t>(dice_.OneOf({64 * 1024, 1024 * 1024}));
  options.session.connection.max_waiting_output = static_cast<size_t>(-1);
  options.max_backoff = absl::Seconds(1);
  options.seed = dice_.Next() | 1;
  if (dice_.Chance(5)) {
    options.max_waiting_calls = 2;
    ledger_.excuses.limits = true;
  }
  return options;
}

Fleet::Options World::NewFleetOptions() {
  Fleet::Options options;
  options.name = "simulated";
  options.endpoint = NewCallerOptions();
  options.balancing.policy = character_.policy;
  options.seed = dice_.Next() | 1;
  options.outliers.seed = dice_.Next() | 1;
  if (dice_.Chance(30)) options.retry.max_attempts = static_cast<int>(dice_.Between(1, 5));
  if (dice_.Chance(30)) options.outliers.failures_in_a_row = static_cast<uint32_t>(dice_.Between(1, 3));
  if (dice_.Chance(20)) options.retry_budget.max_tokens = 1;
  if (dice_.Chance(30)) {
    options.retry.hedge_delay = absl::Microseconds(dice_.Between(1, 20'000));
    // One attempt alone is not hedged.
    if (options.retry.max_attempts == 1) options.retry.max_attempts = 2;
    ledger_.excuses.hedges = true;
  }
  if (dice_.Chance(30)) options.pool = NewPoolOptions();
  if (character_.asks_health) options.health_service = "";
  return options;
}

PoolOptions World::NewPoolOptions() {
  PoolOptions options;
  options.max_connections = dice_.Between(2, 4);
  options.calls_per_connection = dice_.Between(1, 4);
  options.exclusive = dice_.Chance(30);
  if (dice_.Chance(50)) options.min_connections = dice_.Between(1, 2);
  if (dice_.Chance(50)) options.idle_timeout = absl::Milliseconds(dice_.Between(1, 100));
  if (dice_.Chance(50)) options.max_age = absl::Milliseconds(dice_.Between(1, 200));
  if (dice_.Chance(20)) {
    options.when_full = PoolOptions::WhenFull::kFail;
    ledger_.excuses.limits = true;
  }
  return options;
}

size_t World::MessageSize() {
  if (dice_.Chance(80)) return dice_.Below(100);
  if (character_.bulk) return dice_.Below(300'000);
  return dice_.Below(character_.slices ? 300 : dice_.Chance(75) ? 3'000 : 30'000);
}

CallPlan World::NewPlan() {
  CallPlan plan{
      .request_size = MessageSize(),
      .wait_for_ready = dice_.Chance(20),
      .with_metadata = dice_.Chance(20),
      .close_at_end = dice_.Chance(1) && character_.weights[static_cast<size_t>(Event::kDestroyChannel)] > 0};
  if (dice_.Chance(character_.deadlines)) plan.timeout = absl::Microseconds(dice_.Between(1, 200'000));
  if (dice_.Chance(20)) plan.followers = static_cast<int>(dice_.Between(1, 3));
  plan.cancellable = dice_.Chance(30);
  plan.idempotent = dice_.Chance(30);
  plan.habits = {.callbacks = dice_.Chance(50),
                 .reads_on = static_cast<int>(dice_.Below(4)),
                 .drops_at_read = dice_.Chance(10) ? static_cast<int>(dice_.Between(1, 3)) : 0};
  return plan;
}

}  // namespace ferry::simulation
