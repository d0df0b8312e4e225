// How a schedule runs its two sides, lets all end, and looks what is left.
#include <algorithm>
#include <numeric>
#include <ostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/simulation/world.h"
#include "tests/testing/run_loop.h"

namespace ferry::simulation {

using transport::EventLoop;

namespace {

// Shorter than the least time limit of a connection.
constexpr absl::Duration kQuiet = absl::Seconds(9);
constexpr int kMaxRounds = 60;

}  // namespace

// ---------------------------------------------------------------- What runs

void World::RunClient() {
  client_loop_->RunUntilIdle();
  ledger_.CheckPunctual();
}

void World::RunServer() {
  if (own_server_loop_ == nullptr) return RunClient();
  server_loop_.RunUntilIdle();
}

// Until neither has anything to do: no bytes move any more, and what they were the last to cause is done.
void World::RunBoth() {
  for (int quiet = 0; quiet < 2; ++quiet) {
    const uint64_t before = network_.moved();
    RunServer();
    RunClient();
    if (network_.moved() != before) quiet = -1;
  }
}

void World::Advance(absl::Duration by) {
  clock_.Advance(by);
  if (clock_.Now() - start_ >= kQuiet) ledger_.excuses.connections = true;
  if (network_.FailLate(clock_.Now())) ledger_.excuses.connections = true;
}

// ---------------------------------------------------------------- The end

void World::Restore(Link& link) {
  for (const Link::End end : {Link::kClient, Link::kServer}) {
    Link::Faults faults = link.faults(end);
    faults.stall_reads = faults.stall_writes = false;
    faults.max_read = faults.max_write = static_cast<size_t>(-1);
    link.SetFaults(end, faults);
  }
}

// Lets everything finish: nothing stalls, a server listens, handlers answer and callers read.
void World::Settle() {
  for (const auto& link : network_.links()) Restore(*link);
  std::vector<size_t> all(places());
  std::iota(all.begin(), all.end(), 0);
  for (const size_t place : all) {
    if (ListeningHost(place) == nullptr) OpenHost(place);
  }
  names_.Tell(all);
  int& rounds = outcome_.rounds_to_settle;
  for (; rounds < kMaxRounds; ++rounds) {
    if (!SettleOnce()) return;
    // Time passes only for calls that wait to connect again, and not long enough to end a connection that
    // stands still.
    if (rounds >= 10) Advance(absl::Milliseconds(60));
  }
  ledger_.CheckAllEnded();
  ledger_.Complain(absl::StrCat("something goes on after ", rounds, " rounds in which all could end"));
}

// Lets everybody go on; whether something is left to be done.
bool World::SettleOnce() {
  while (network_.waiting() > 0) {
    Host* const listening = ListeningHost(network_.next_place());
    network_.Connect(64 * 1024, [listening](auto stream) { listening->Accept(std::move(stream)); });
  }
  RunBoth();
  bool left = !ledger_.all_ended();
  for (const auto& host : hosts_) {
    while (host->RunTask()) {
    }
    for (const auto& call : std::vector(host->kept())) call->Settle();
    left |= !host->kept().empty();
  }
  for (const auto& caller : callers_) {
    for (const auto& stream : std::vector(caller->streams())) stream->Settle();
    left |= !caller->streams().empty();
  }
  return left;
}

// Closes everything, servers or clients first.
void World::End() {
  const bool servers_first = dice_.Chance(50);
  if (servers_first) {
    for (const auto& host : hosts_) host->Drain();
    RunBoth();
  }
  for (const auto& caller : callers_) {
    if (caller->is_open()) caller->Close();
  }
  RunBoth();
  for (const auto& host : hosts_) host->Drain();
  RunBoth();
  // A connection lingers for a second, and blocks are kept for some more.
  for (int i = 0; i < 4; ++i) {
    Advance(2 * buffers_.max_age());
    RunBoth();
  }
  ledger_.CheckAllEnded();
  CheckNothingHeld();
}

void World::CheckNothingHeld() {
  for (const auto& caller : callers_) caller->CheckNothingHeld();
  for (const auto& host : hosts_) host->CheckNothingHeld();
  if (network_.waiting() > 0) ledger_.Complain("an attempt to connect goes on");
  if (!network_.links().empty()) ledger_.Complain("a connection is kept");
  for (EventLoop* loop : {client_loop_.get(), &server_loop_}) {
    test::RunIn(*loop, [&] {
      if (!loop->timers().empty()) ledger_.Complain(absl::StrCat(loop->timers().size(), " timers are armed"));
    });
  }
  if (const size_t used = buffers_.stats().used_bytes; used > 0) {
    ledger_.Complain(absl::StrCat("buffers hold ", used, " bytes"));
  }
}

}  // namespace ferry::simulation
