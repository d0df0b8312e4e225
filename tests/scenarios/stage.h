// What a scenario is played on.
#ifndef FERRY_TESTS_SCENARIOS_STAGE_H_
#define FERRY_TESTS_SCENARIOS_STAGE_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/tests/testing/fault_proxy.h"
#include "tests/scenarios/load.h"
#include "tests/scenarios/promises.h"
#include "tests/scenarios/results.h"
#include "tests/scenarios/server_process.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::scenarios {

struct StageOptions {
  // Seconds instead of minutes, for the tests; how long things take does not count then.
  bool brief = false;
  // The programs of probe_server.cc and probe_clients.cc.
  std::string server = {};
  std::string clients = {};
  // Where progress and tables are written; not owned.
  std::ostream* out = nullptr;
  // How long Watch sleeps between its looks.
  absl::Duration look_every = absl::Milliseconds(20);
};

// A Stage has servers and a channel to them, and keeps the promises.
//
// Thread-compatible.
class Stage {
 public:
  explicit Stage(const StageOptions& options) : options_(options) {}

  const StageOptions& options() const { return options_; }
  bool brief() const { return options_.brief; }
  // How long a state of things that is looked at lasts.
  absl::Duration phase() const { return absl::Seconds(options_.brief ? 2 : 10); }
  Promises& promises() { return promises_; }

  // Starts servers on loopback addresses of their own, "127.0.0.2" and so on; `work` is how long a call
  // takes.
  void StartServers(int count, absl::Duration work = absl::ZeroDuration());
  // The same, each on so many addresses, which are in nobody else's use.
  void StartServersOnMany(int count, int addresses);
  ServerProcess& server(int index) { return *servers_[index]; }
  int servers() const { return static_cast<int>(servers_.size()); }
  // A server that takes this long, in the place of another.
  void Replace(int index, absl::Duration work);
  // Has clients connect to a server through a proxy.
  test::FaultProxy& PutProxyBefore(int index);
  // Where clients connect to it.
  const std::string& AddressOf(int index) const;

  // Makes the channel to all servers, with a resolver that finds what is told.
  Channel& Connect(const ChannelOptions& options);
  void TellAll();
  test::ManualNames& names() { return names_; }

  // Lets time pass, with a line that shows how the load goes, and what ShowAlso says; until `done` is true,
  // if that is given. Whether it was.
  bool Watch(std::string_view what, const std::vector<const Load*>& loads, absl::Duration at_most,
             const std::function<bool()>& done = nullptr);
  // Something that Watch adds to its line from now on.
  void ShowAlso(std::function<std::string()> what) { show_also_ = std::move(what); }

  // From here on the number of this process's threads is not to change: Watch looks at it.
  void HoldThreads();
  // That it did not, until now. Every scenario promises it.
  void PromiseThreads();

  // Writes the table; whether every promise was kept.
  bool Finish(std::string_view name);

 private:
  void LookAtThreads();

  const StageOptions options_;
  std::vector<std::unique_ptr<ServerProcess>> servers_;
  // Null for a server that has none.
  std::vector<std::unique_ptr<test::FaultProxy>> proxies_;
  test::ManualNames names_;
  std::unique_ptr<Channel> channel_;
  std::function<std::string()> show_also_;
  bool threads_held_ = false;
  bool threads_promised_ = false;
  SteadyNumber threads_;
  Promises promises_;
};

// A Scenario is one of ./dev scenario's.
struct Scenario {
  std::string_view name;
  std::string_view about;
  void (*play)(Stage& stage);
};

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_STAGE_H_
