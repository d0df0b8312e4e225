// One schedule: clients, servers and the network between them, driven step by step at random.
#ifndef FERRY_TESTS_SIMULATION_WORLD_H_
#define FERRY_TESTS_SIMULATION_WORLD_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/fleet.h"
#include "ferry/rpc/pool_options.h"
#include "ferry/transport/buffer_pool.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "tests/simulation/caller.h"
#include "tests/simulation/caller_stream.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/host.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/network.h"
#include "tests/simulation/served_call.h"
#include "tests/simulation/service_names.h"

namespace ferry::simulation {

// What a schedule may do next. kEventNames in world.cc has their names, and how often each comes.
enum class Event {
  // Calls
  kCallInline,
  kCallExecutor,
  kUpload,
  kWatch,
  kTalk,
  // What the client does with its streams
  kClientWrite,
  kClientRead,
  kWritesDone,
  kFinish,
  kCancel,
  kCancelUnary,
  kDropStream,
  // What handlers that have kept their calls do
  kHandlerWrite,
  kHandlerRead,
  kHandlerAnswer,
  kHandlerFail,
  kHandlerDrop,
  // What runs
  kRunClient,
  kRunServer,
  kRunTask,
  // The network
  kConnect,
  kRefuse,
  kSlow,
  kStall,
  kRestore,
  kCut,
  kEndOfBytes,
  kFuse,
  // Time
  kTick,
  kLongWait,
  // Comings and goings
  kDrain,
  kShutdown,
  kNewServer,
  kNewList,
  kDestroyChannel,
};
inline constexpr size_t kEvents = static_cast<size_t>(Event::kDestroyChannel) + 1;
absl::string_view EventName(Event event);

// What became of a schedule.
struct Outcome {
  // How often each event happened.
  std::array<uint64_t, kEvents> events = {};
  uint64_t calls = 0;
  uint64_t with_deadline = 0;
  uint64_t fragmented = 0;
  uint64_t executed = 0;
  // By the code of their status, and those whose status nobody asked for.
  std::array<uint64_t, 17> ended = {};
  uint64_t dropped = 0;
  // How often everything had to be tried again after the last event until every call had ended.
  int rounds_to_settle = 0;
  // Stands for all that happened, in its order.
  uint64_t fingerprint = 0;
  // What must not be; empty if the schedule has held.
  std::vector<std::string> complaints;
};

// A World is one schedule. Everything in it follows from the seed.
//
// Thread-compatible.
class World {
 public:
  // Events are written to `trace`, unless that is null; not owned.
  World(uint64_t seed, std::ostream* trace);
  ~World();

  // Runs the schedule to its end.
  Outcome Run();

 private:
  // What kinds of things happen in this schedule: each has some of them often, and some not at all.
  struct Character {
    std::array<uint32_t, kEvents> weights = {};
    bool bulk = false;       // messages of several fragments
    bool slices = false;     // a few bytes at a time
    uint64_t deadlines = 0;  // of 100 calls
    uint64_t settles = 0;    // of 100 events, after which both sides do all they can
    size_t places = 0;       // of servers that clients have a fleet of; 0: they have an endpoint each
    BalancingPolicy policy = BalancingPolicy::kLeastLoaded;
    bool asks_health = false;
  };

  void DrawCharacter();
  void Step();
  bool Do(Event event);
  bool DoStream(Event event);
  bool DoHandler(Event event);
  bool DoNetwork(Event event);
  bool DoLink(Event event, Link& link);
  bool DoLife(Event event);
  bool StartCall(Event event);

  size_t MessageSize();
  CallPlan NewPlan();
  Endpoint::Options NewCallerOptions();
  Fleet::Options NewFleetOptions();
  PoolOptions NewPoolOptions();
  Host::Options NewHostOptions(size_t place);
  Caller& OpenCaller();
  size_t places() const { return std::max<size_t>(character_.places, 1); }
  void OpenHost(size_t place);
  // A server that listens there; null if none does.
  Host* ListeningHost(size_t place);
  void TellNames();
  std::shared_ptr<CallerStream> SomeStream();
  std::shared_ptr<ServedCall> SomeHandler();

  void RunClient();
  void RunServer();
  void RunBoth();
  void Advance(absl::Duration by);
  void Settle();
  bool SettleOnce();
  void Restore(Link& link);
  void End();
  void CheckNothingHeld();
  void Count(Outcome& outcome) const;
  void Note(Event event);

  const uint64_t seed_;
  std::ostream* const trace_;
  Dice dice_;
  Character character_;
  Outcome outcome_;
  transport::ManualClock clock_;
  const transport::Instant start_;
  transport::BufferPool buffers_;
  std::unique_ptr<transport::EventLoop> client_loop_;
  // Null if one loop is for both sides.
  std::unique_ptr<transport::EventLoop> own_server_loop_;
  transport::EventLoop& server_loop_;
  Ledger ledger_;
  Network network_;
  ServiceNames names_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::unique_ptr<Caller>> callers_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_WORLD_H_
