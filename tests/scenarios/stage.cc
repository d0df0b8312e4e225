#include "tests/scenarios/stage.h"

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "ferry/transport/check.h"

namespace ferry::scenarios {
namespace {

std::string AddressOf(int index) { return absl::StrCat("127.0.0.", index + 2, ":0"); }
std::string WorkFlag(absl::Duration work) { return absl::StrCat("--work=", absl::FormatDuration(work)); }

}  // namespace

void Stage::StartServers(int count, absl::Duration work) {
  for (int i = 0; i < count; ++i) {
    servers_.push_back(std::make_unique<ServerProcess>(options_.server, AddressOf(i),
                                                       std::vector<std::string>{WorkFlag(work)}));
  }
}

void Stage::Replace(int index, absl::Duration work) {
  servers_[index] = std::make_unique<ServerProcess>(options_.server, AddressOf(index),
                                                    std::vector<std::string>{WorkFlag(work)});
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
  for (const auto& server : servers_) addresses.push_back(server->address());
  names_.Tell(addresses);
}

bool Stage::Watch(std::string_view what, const std::vector<const Load*>& loads, absl::Duration at_most,
                  const std::function<bool()>& done) {
  const absl::Time until = absl::Now() + at_most;
  std::vector<size_t> before(loads.size());
  for (size_t i = 0; i < loads.size(); ++i) before[i] = loads[i]->ended();
  absl::Time last = absl::Now();
  bool is_done = false;
  while (!is_done && absl::Now() < until) {
    absl::SleepFor(absl::Milliseconds(20));
    is_done = done != nullptr && done();
    const absl::Duration passed = absl::Now() - last;
    if (passed < absl::Milliseconds(500) && !is_done) continue;
    std::string rates;
    for (size_t i = 0; i < loads.size(); ++i) {
      const size_t ended = loads[i]->ended();
      absl::StrAppendFormat(&rates, "  %6.0f calls/s, %d failed",
                            static_cast<double>(ended - before[i]) / absl::ToDoubleSeconds(passed),
                            loads[i]->failed());
      before[i] = ended;
    }
    *options_.out << "\r\x1b[K" << what << rates << std::flush;
    last = absl::Now();
  }
  *options_.out << "\r\x1b[K" << std::flush;
  return is_done;
}

void Stage::Promises(std::string what, std::string limit, std::string seen, bool kept, bool is_time) {
  promises_.push_back({std::move(what), std::move(limit), std::move(seen), kept, is_time});
}

void Stage::PromisesTime(std::string what, absl::Duration limit, absl::Duration seen) {
  const auto text = [](absl::Duration d) { return absl::StrFormat("%.2f s", absl::ToDoubleSeconds(d)); };
  Promises(std::move(what), absl::StrCat("<= ", text(limit)),
           seen == absl::InfiniteDuration() ? "never" : text(seen), seen <= limit, /*is_time=*/true);
}

bool Stage::Finish(std::string_view name) {
  size_t width = 8;
  for (const Promise& promise : promises_) width = std::max(width, promise.what.size());
  *options_.out << std::left << std::setw(static_cast<int>(width) + 2) << name << std::setw(18) << "promised"
                << std::setw(18) << "seen"
                << "\n";
  bool all = true;
  for (const Promise& promise : promises_) {
    const bool counts = !(promise.is_time && options_.brief);
    *options_.out << std::setw(static_cast<int>(width) + 2) << promise.what << std::setw(18) << promise.limit
                  << std::setw(18) << promise.seen
                  << (promise.kept ? "kept"
                      : counts     ? "BROKEN"
                                   : "not kept (not counted in brief)")
                  << "\n";
    all = all && (promise.kept || !counts);
  }
  *options_.out << std::flush;
  return all;
}

int Stage::Threads() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int threads = 0;
  while (status >> word) {
    if (word == "Threads:") status >> threads;
  }
  return threads;
}

}  // namespace ferry::scenarios
