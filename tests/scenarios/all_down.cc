// The scenario in which there is no server for a while.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/transport/check.h"
#include "tests/scenarios/child_process.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/scenarios.ferry.h"
#include "tests/scenarios/scenarios.h"
#include "tests/scenarios/stage.h"

namespace ferry::scenarios {
namespace {

constexpr int kProcesses = 10;

// A Crowd is many clients of one server, in several processes: in each the cap on attempts to connect is far
// above what its few clients want, so they come together or apart by their own random waits alone.
//
// Thread-compatible.
class Crowd {
 public:
  Crowd(const std::string& program, const std::string& server, int clients_each) {
    const std::vector<std::string> arguments = {
        absl::StrCat("--server=", server), absl::StrCat("--clients=", clients_each),
        absl::StrCat("--keepalive=", absl::FormatDuration(kKeepalive))};
    for (int i = 0; i < kProcesses; ++i) {
      processes_.push_back(std::make_unique<ChildProcess>(program, arguments));
    }
  }

  // Each makes a call, which waits for the server.
  void Ask() {
    answered_ = 0;
    done_.assign(processes_.size(), false);
    for (const auto& process : processes_) process->WriteLine("ask");
  }

  // Whether all calls of all processes have ended.
  bool LookWhetherDone() {
    bool all = true;
    for (size_t i = 0; i < processes_.size(); ++i) {
      if (done_[i]) continue;
      if (const std::optional<std::string> line = processes_[i]->ReadLine(absl::ZeroDuration())) {
        done_[i] = true;
        Note(*line);
      }
      all = all && done_[i];
    }
    return all;
  }

  // Of the calls made last, those of processes whose calls have all ended.
  int answered() const { return answered_; }
  // Of each of them, whenever its calls had ended.
  const SteadyNumber& threads() const { return threads_; }

 private:
  void Note(const std::string& line) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int answered = 0;
    int threads = 0;
    FERRY_CHECK(
        words.size() == 2 && absl::SimpleAtoi(words[0], &answered) && absl::SimpleAtoi(words[1], &threads),
        line.c_str());
    answered_ += answered;
    threads_.Add(threads);
  }

  std::vector<std::unique_ptr<ChildProcess>> processes_;
  std::vector<bool> done_;
  int answered_ = 0;
  SteadyNumber threads_;
};

// An Answer to this process's client may come when nobody waits for it any more.
struct Answer {
  // Written before, and read after `came`.
  absl::Time at;
  std::atomic<bool> came{false};
};

// The steady load before, all of which goes well.
void PlayBefore(Stage& stage, Channel& channel) {
  Load asks(channel, {.calls_per_second = 2000});
  stage.Watch("three servers  ", {&asks}, absl::Seconds(stage.brief() ? 1 : 5));
  asks.Stop();
  PromiseNoFailure(stage, asks, "failed calls before");
}

// No burst: every client is connected once, and they come one by one.
void PromiseNoBurst(Stage& stage, Channel& channel, int clients) {
  const absl::StatusOr<ConnectionsReply> reply =
      ProbeStub(channel).Connections(ConnectionsRequest(), {.timeout = kPatience});
  std::vector<absl::Duration> times;
  if (reply.ok()) {
    for (const int64_t nanos : reply->first_call()) times.push_back(absl::Nanoseconds(nanos));
  }
  stage.promises().Add("connections that the server saw", absl::StrCat(clients), absl::StrCat(times.size()),
                       times.size() == static_cast<size_t>(clients));
  // Each waits for a random time of up to 0.7 s, again and again: 27 % come in the first tenth of a second.
  // On a busy machine more seem to.
  const size_t limit = static_cast<size_t>(clients) / 2;
  const size_t most = MostWithin(times, absl::Milliseconds(100));
  stage.promises().Add("most of them within one tenth of a second", absl::StrCat("<= ", limit),
                       absl::StrCat(most), most <= limit, Promises::Of::kTime);
}

}  // namespace

void PlayAllDown(Stage& stage) {
  stage.StartServers(3);
  Channel& channel = stage.Connect(ProbeOptions());
  PlayBefore(stage, channel);
  const int others = stage.brief() ? 200 : 1000;
  Crowd crowd(stage.options().clients, stage.server(0).address(), others / kProcesses);
  const auto answer = std::make_shared<Answer>();
  stage.ShowAlso([&] {
    return absl::StrCat(channel.server_counts().usable, " of 3 servers, ", crowd.answered(), " of ", others,
                        " clients have had their last call answered");
  });
  stage.HoldThreads();
  crowd.Ask();
  const bool connected =
      stage.Watch("all are up     ", {}, kPatience, [&] { return crowd.LookWhetherDone(); });
  FERRY_CHECK(connected && crowd.answered() == others, "the other clients do not reach their server");
  for (int i = 0; i < 3; ++i) stage.server(i).Kill();
  stage.Watch("all are down   ", {}, absl::Seconds(stage.brief() ? 2 : 20));
  ProbeStub(channel).Ask(ProbeRequest(), {.timeout = 2 * kPatience, .wait_for_ready = true},
                         [answer](const absl::StatusOr<ProbeReply>& reply) {
                           answer->at = absl::Now();
                           answer->came = reply.ok();
                         });
  crowd.Ask();
  stage.Watch("all wait       ", {}, absl::Seconds(1));
  stage.server(0).StartAgain();
  const absl::Time back_at = absl::Now();
  const bool all =
      stage.Watch("the first is up", {}, kPatience, [&] { return crowd.LookWhetherDone() && answer->came; });
  stage.PromiseThreads();
  stage.promises().Add("threads of each process of the others", absl::StrCat(crowd.threads().first()),
                       crowd.threads().seen(), crowd.threads().steady());
  stage.promises().AddTime(
      "the client is connected again after", absl::Seconds(1),
      answer->came ? std::max(answer->at - back_at, absl::ZeroDuration()) : absl::InfiniteDuration());
  stage.promises().Add(absl::StrCat("of ", others, " other clients that wait, are answered"), "all",
                       absl::StrCat(crowd.answered()), all && crowd.answered() == others);
  PromiseNoBurst(stage, channel, others + 1);
  stage.ShowAlso(nullptr);
}

}  // namespace ferry::scenarios
