#include "tests/scenarios/stage.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "ferry/transport/check.h"
#include "tests/scenarios/process_usage.h"

namespace ferry::scenarios {
namespace {

std::string LoopbackOf(int index) { return absl::StrCat("127.0.0.", index + 2, ":0"); }
std::string WorkFlag(absl::Duration work) { return absl::StrCat("--work=", absl::FormatDuration(work)); }

// What each load has done since the last line, and in all.
std::string RatesOf(const std::vector<const Load*>& loads, std::vector<size_t>& before,
                    absl::Duration passed) {
  std::string rates;
  for (size_t i = 0; i < loads.size(); ++i) {
    const size_t ended = loads[i]->ended();
    absl::StrAppendFormat(&rates, "  %6.0f calls/s, %d failed",
                          static_cast<double>(ended - before[i]) / absl::ToDoubleSeconds(passed),
                          loads[i]->failed());
    before[i] = ended;
  }
  return rates;
}

}  // namespace

void Stage::StartServers(int count, absl::Duration work) {
  for (int i = 0; i < count; ++i) {
    servers_.push_back(std::make_unique<ServerProcess>(options_.server, std::vector{LoopbackOf(i)},
                                                       std::vector{WorkFlag(work)}));
  }
  proxies_.resize(servers_.size());
}

void Stage::StartServersOnMany(int count, int addresses) {
  for (int i = 0; i < count; ++i) {
    std::vector<std::string> own;
    own.reserve(addresses);
    for (int k = 0; k < addresses; ++k) {
      own.push_back(absl::StrCat("127.", 1 + i, ".", k / 200, ".", 1 + k % 200, ":0"));
    }
    servers_.push_back(std::make_unique<ServerProcess>(options_.server, std::move(own)));
  }
  proxies_.resize(servers_.size());
}

void Stage::Replace(int index, absl::Duration work) {
  servers_[index] = std::make_unique<ServerProcess>(options_.server, std::vector{LoopbackOf(index)},
                                                    std::vector{WorkFlag(work)});
}

test::FaultProxy& Stage::PutProxyBefore(int index) {
  absl::StatusOr<std::unique_ptr<test::FaultProxy>> proxy =
      test::FaultProxy::Create(servers_[index]->address(), {});
  FERRY_CHECK(proxy.ok(), proxy.status().ToString().c_str());
  proxies_[index] = *std::move(proxy);
  return *proxies_[index];
}

const std::string& Stage::AddressOf(int index) const {
  return proxies_[index] != nullptr ? proxies_[index]->address() : servers_[index]->address();
}

Channel& Stage::Connect(const ChannelOptions& options) {
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      Channel::CreateResolved("the service", names_.Factory(), options);
  FERRY_CHECK(channel.ok(), channel.status().ToString().c_str());
  channel_ = *std::move(channel);
  TellAll();
  return *channel_;
}

void Stage::TellAll() {
  std::vector<std::string> addresses;
  addresses.reserve(servers_.size());
  for (int i = 0; i < servers(); ++i) addresses.push_back(AddressOf(i));
  names_.Tell(addresses);
}

bool Stage::Watch(std::string_view what, const std::vector<const Load*>& loads, absl::Duration at_most,
                  const std::function<bool()>& done) {
  const absl::Time beginning = absl::Now();
  std::vector<size_t> before(loads.size());
  for (size_t i = 0; i < loads.size(); ++i) before[i] = loads[i]->ended();
  absl::Time last = beginning;
  bool is_done = false;
  while (!is_done && absl::Now() < beginning + at_most) {
    absl::SleepFor(options_.look_every);
    LookAtThreads();
    is_done = done != nullptr && done();
    const absl::Time now = absl::Now();
    if (now - last < absl::Milliseconds(500) && !is_done) continue;
    *options_.out << "\r\x1b[K" << what
                  << absl::StrFormat("  %4.1f s", absl::ToDoubleSeconds(now - beginning))
                  << RatesOf(loads, before, now - last);
    if (show_also_ != nullptr) *options_.out << "  " << show_also_();
    *options_.out << std::flush;
    last = now;
  }
  *options_.out << "\r\x1b[K" << std::flush;
  return is_done;
}

void Stage::LookAtThreads() {
  if (threads_held_) threads_.Add(ThreadsOfProcess());
}

void Stage::HoldThreads() {
  threads_held_ = true;
  LookAtThreads();
}

void Stage::PromiseThreads() {
  LookAtThreads();
  threads_held_ = false;
  threads_promised_ = true;
  promises_.Add("threads, all the time", absl::StrCat(threads_.first()), threads_.seen(), threads_.steady());
}

bool Stage::Finish(std::string_view name) {
  if (!threads_promised_) PromiseThreads();
  return promises_.Write(*options_.out, name, /*time_counts=*/!options_.brief);
}

}  // namespace ferry::scenarios
