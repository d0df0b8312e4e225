// What a scenario is played on, and what it promises.
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
#include "tests/scenarios/load.h"
#include "tests/scenarios/server_process.h"
#include "tests/testing/manual_resolver.h"

namespace ferry::scenarios {

// A Promise is one line of a scenario's table.
struct Promise {
  std::string what;
  std::string limit;
  std::string seen;
  bool kept;
  // It says how long something takes: on a machine that is busy with other things that may fail, so it does
  // not count in the brief form.
  bool is_time;
};

struct StageOptions {
  // Seconds instead of minutes, for the tests.
  bool brief = false;
  // The program of probe_server.cc.
  std::string server;
  // Where progress and tables are written; not owned.
  std::ostream* out;
};

// A Stage has servers and a channel to them, and keeps the promises' table.
//
// Thread-compatible.
class Stage {
 public:
  explicit Stage(const StageOptions& options) : options_(options) {}

  bool brief() const { return options_.brief; }

  // Starts servers on loopback addresses of their own, "127.0.0.2" and so on; `work` is how long a call
  // takes.
  void StartServers(int count, absl::Duration work = absl::ZeroDuration());
  ServerProcess& server(int index) { return *servers_[index]; }
  // A server that takes this long, in the place of another.
  void Replace(int index, absl::Duration work);

  // Makes the channel to all servers, with a resolver that finds what Tell says.
  Channel& Connect(const ChannelOptions& options);
  void TellAll();
  test::ManualNames& names() { return names_; }

  // Lets time pass, with a line that shows how the load goes; until `done` is true, if that is given. Whether
  // it was.
  bool Watch(std::string_view what, const std::vector<const Load*>& loads, absl::Duration at_most,
             const std::function<bool()>& done = nullptr);

  void Promises(std::string what, std::string limit, std::string seen, bool kept, bool is_time = false);
  // That it takes at most `limit`.
  void PromisesTime(std::string what, absl::Duration limit, absl::Duration seen);

  // Writes the table; whether every promise was kept.
  bool Finish(std::string_view name);

  // Of this process.
  static int Threads();

 private:
  const StageOptions options_;
  std::vector<std::unique_ptr<ServerProcess>> servers_;
  test::ManualNames names_;
  std::unique_ptr<Channel> channel_;
  std::vector<Promise> promises_;
};

// A Scenario is one of ./dev scenario's.
struct Scenario {
  std::string_view name;
  std::string_view about;
  void (*play)(Stage& stage);
};

const std::vector<Scenario>& Scenarios();

}  // namespace ferry::scenarios

#endif  // FERRY_TESTS_SCENARIOS_STAGE_H_
