#include "tests/simulation/world.h"

#include <algorithm>
#include <ostream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/balancing/hashing.h"
#include "ferry/rpc/wire.h"
#include "tests/testing/run_loop.h"

namespace ferry::simulation {

using transport::EventLoop;

namespace {

// Clients at a time, and servers in all: at the only place, or at each of several.
constexpr size_t kMaxCallers = 2;
constexpr size_t kMaxHosts = 4;
constexpr size_t kMaxHostsOfFleet = 3;
constexpr size_t kMaxCalls = 60;
struct EventKind {
  absl::string_view name;
  uint32_t weight;
  // A schedule may be without it.
  bool optional;
};

constexpr std::array<EventKind, kEvents> kEventKinds = {{
    {"call inline", 15, true},
    {"call executor", 15, true},
    {"upload", 8, true},
    {"watch", 8, true},
    {"talk", 12, true},
    {"client writes", 60, true},
    {"client reads", 60, true},
    {"writes done", 8, true},
    {"finish", 8, true},
    {"cancel", 5, true},
    {"cancel unary", 10, true},
    {"drop stream", 5, true},
    {"handler writes", 60, true},
    {"handler reads", 60, true},
    {"handler answers", 30, true},
    {"handler fails", 5, true},
    {"handler drops", 3, true},
    {"client runs", 60, false},
    {"server runs", 60, false},
    {"task runs", 30, false},
    {"connect", 60, false},
    {"refuse", 3, true},
    {"slow", 8, true},
    {"stall", 8, true},
    {"restore", 12, false},
    {"cut", 2, true},
    {"end of bytes", 2, true},
    {"fuse", 2, true},
    {"tick", 25, true},
    {"long wait", 2, true},
    {"drain", 2, true},
    {"shutdown", 1, true},
    {"new server", 20, false},
    {"new list", 6, true},
    {"destroy channel", 2, true},
}};

std::unique_ptr<EventLoop> NewLoop(const transport::Clock& clock, transport::BufferPool& buffers) {
  return test::NewLoop({.clock = &clock, .buffers = &buffers});
}

}  // namespace

absl::string_view EventName(Event event) { return kEventKinds[static_cast<size_t>(event)].name; }

World::World(uint64_t seed, std::ostream* trace)
    : seed_(seed),
      trace_(trace),
      dice_(seed),
      start_(clock_.Now()),
      buffers_({.clock = &clock_}),
      client_loop_(NewLoop(clock_, buffers_)),
      own_server_loop_(dice_.Chance(75) ? NewLoop(clock_, buffers_) : nullptr),
      server_loop_(own_server_loop_ != nullptr ? *own_server_loop_ : *client_loop_),
      ledger_(clock_, trace),
      network_(*client_loop_, server_loop_),
      names_(*client_loop_) {
  SeedThreadRandom(seed);
  DrawCharacter();
  for (size_t place = 0; place < places(); ++place) OpenHost(place);
  TellNames();
}

World::~World() = default;

void World::DrawCharacter() {
  for (size_t i = 0; i < kEvents; ++i) {
    const EventKind& kind = kEventKinds[i];
    character_.weights[i] = kind.weight * static_cast<uint32_t>(kind.optional ? dice_.OneOf({0, 1, 1, 1, 3})
                                                                              : dice_.OneOf({1, 2}));
  }
  character_.bulk = dice_.Chance(6);
  character_.slices = !character_.bulk && dice_.Chance(25);
  character_.deadlines = dice_.OneOf({0, 10, 50});
  character_.settles = dice_.OneOf({0, 5, 30, 90});
  if (!dice_.Chance(30)) return;
  character_.places = dice_.Between(2, 4);
  character_.policy = static_cast<BalancingPolicy>(dice_.Below(4));
  character_.asks_health = dice_.Chance(20);
}

// ---------------------------------------------------------------- Who takes part

Caller& World::OpenCaller() {
  std::vector<Caller*> open;
  for (const auto& caller : callers_) {
    if (caller->is_open()) open.push_back(caller.get());
  }
  if (open.size() < kMaxCallers && (open.empty() || dice_.Chance(10))) {
    callers_.push_back(
        character_.places > 0
            ? std::make_unique<Caller>(NewFleetOptions(), *client_loop_, network_, ledger_, names_)
            : std::make_unique<Caller>(NewCallerOptions(), *client_loop_, network_, ledger_));
    return *callers_.back();
  }
  return *open[dice_.Below(open.size())];
}

void World::OpenHost(size_t place) {
  hosts_.push_back(std::make_unique<Host>(NewHostOptions(place), server_loop_, ledger_));
}

// All places, or some of them.
void World::TellNames() {
  std::vector<size_t> listed;
  listed.reserve(places());
  for (size_t place = 0; place < places(); ++place) {
    if (dice_.Chance(70)) listed.push_back(place);
  }
  if (listed.empty()) ledger_.excuses.names = true;
  names_.Tell(listed);
}

Host* World::ListeningHost(size_t place) {
  std::vector<Host*> listening;
  for (const auto& host : hosts_) {
    if (host->listening() && host->place() == place) listening.push_back(host.get());
  }
  return listening.empty() ? nullptr : listening[dice_.Below(listening.size())];
}

std::shared_ptr<CallerStream> World::SomeStream() {
  std::vector<std::shared_ptr<CallerStream>> all;
  for (const auto& caller : callers_)
    all.insert(all.end(), caller->streams().begin(), caller->streams().end());
  return all.empty() ? nullptr : all[dice_.Below(all.size())];
}

std::shared_ptr<ServedCall> World::SomeHandler() {
  std::vector<std::shared_ptr<ServedCall>> all;
  for (const auto& host : hosts_) all.insert(all.end(), host->kept().begin(), host->kept().end());
  return all.empty() ? nullptr : all[dice_.Below(all.size())];
}

// ---------------------------------------------------------------- Events

Outcome World::Run() {
  for (uint64_t steps = dice_.Between(20, 250); steps > 0; --steps) Step();
  if (trace_ != nullptr) *trace_ << "  settles\n";
  Settle();
  if (trace_ != nullptr) *trace_ << "  ends\n";
  End();
  Count(outcome_);
  return std::move(outcome_);
}

void World::Step() {
  const Event event = static_cast<Event>(dice_.Weighted(character_.weights));
  Note(event);
  if (Do(event)) ++outcome_.events[static_cast<size_t>(event)];
  if (dice_.Chance(character_.settles)) RunBoth();
}

void World::Note(Event event) {
  outcome_.fingerprint = Scatter(outcome_.fingerprint ^ static_cast<uint64_t>(event));
  if (trace_ != nullptr) *trace_ << "  " << clock_.Now() - start_ << " " << EventName(event) << "\n";
}

bool World::Do(Event event) {
  if (event <= Event::kTalk) return StartCall(event);
  if (event <= Event::kDropStream) return DoStream(event);
  if (event <= Event::kHandlerDrop) return DoHandler(event);
  switch (event) {
    case Event::kRunClient:
      RunClient();
      return true;
    case Event::kRunServer:
      RunServer();
      return true;
    case Event::kRunTask: {
      Host& host = *hosts_[dice_.Below(hosts_.size())];
      return host.RunTask();
    }
    case Event::kTick:
      Advance(absl::Microseconds(dice_.Between(1, 50'000)));
      return true;
    case Event::kLongWait:
      Advance(absl::Seconds(dice_.OneOf({1, 5, 11, 31})));
      return true;
    default:
      return event <= Event::kFuse ? DoNetwork(event) : DoLife(event);
  }
}

bool World::StartCall(Event event) {
  if (ledger_.calls().size() >= kMaxCalls) return false;
  Caller& caller = OpenCaller();
  CallPlan plan = NewPlan();
  plan.on_executor = event == Event::kCallExecutor;
  if (plan.timeout != absl::InfiniteDuration()) ++outcome_.with_deadline;
  if (plan.request_size > kMaxFragment) ++outcome_.fragmented;
  auto start = [&caller, event, plan] {
    if (!caller.is_open()) return;
    if (event <= Event::kCallExecutor) return caller.StartUnary(plan);
    caller.StartStream(event == Event::kUpload  ? CallKind::kUpload
                       : event == Event::kWatch ? CallKind::kWatch
                                                : CallKind::kTalk,
                       plan);
  };
  if (dice_.Chance(60)) {
    start();
  } else {
    client_loop_->Post(start);
  }
  return true;
}

bool World::DoStream(Event event) {
  if (event == Event::kCancelUnary) {
    return !callers_.empty() && callers_[dice_.Below(callers_.size())]->CancelUnary(dice_.Next());
  }
  const std::shared_ptr<CallerStream> stream = SomeStream();
  if (stream == nullptr) return false;
  switch (event) {
    case Event::kClientWrite:
      return stream->Write(MessageSize());
    case Event::kClientRead:
      return stream->Read();
    case Event::kWritesDone:
      return stream->WritesDone();
    case Event::kFinish:
      return stream->Finish();
    case Event::kCancel:
      return stream->Cancel();
    default:
      return stream->Drop();
  }
}

bool World::DoHandler(Event event) {
  const std::shared_ptr<ServedCall> call = SomeHandler();
  if (call == nullptr) return false;
  switch (event) {
    case Event::kHandlerWrite:
      return call->Write(MessageSize());
    case Event::kHandlerRead:
      return call->Read();
    case Event::kHandlerAnswer:
      return call->Answer(MessageSize());
    case Event::kHandlerFail: {
      const std::string why = absl::StrCat("call ", call->record().id, " is refused");
      return call->Fail(dice_.Chance(50) ? absl::FailedPreconditionError(why) : absl::UnavailableError(why));
    }
    default:
      return call->Drop();
  }
}

bool World::DoNetwork(Event event) {
  if (event == Event::kConnect || event == Event::kRefuse) {
    if (network_.waiting() == 0) return false;
    Host* const host = ListeningHost(network_.next_place());
    if (event == Event::kConnect && host != nullptr) {
      const size_t capacity = dice_.OneOf({character_.bulk ? 4096u : 100u, 4096, 64 * 1024});
      network_.Connect(capacity, [host](auto stream) { host->Accept(std::move(stream)); });
      return true;
    }
    ledger_.excuses.connections = true;
    network_.Refuse();
    return true;
  }
  const auto& links = network_.links();
  if (links.empty()) return false;
  return DoLink(event, *links[dice_.Below(links.size())]);
}

bool World::DoLink(Event event, Link& link) {
  const Link::End end = dice_.Chance(50) ? Link::kClient : Link::kServer;
  Link::Faults faults = link.faults(end);
  switch (event) {
    case Event::kSlow:
      faults.max_read = character_.slices ? dice_.OneOf({1, 2, 13}) : dice_.OneOf({1000, 5000});
      faults.max_write = character_.slices ? dice_.OneOf({1, 7, 50}) : dice_.OneOf({1000, 5000});
      break;
    case Event::kStall:
      faults.stall_reads = dice_.Chance(60);
      faults.stall_writes = !faults.stall_reads || dice_.Chance(30);
      break;
    case Event::kRestore:
      faults.stall_reads = faults.stall_writes = false;
      break;
    case Event::kCut:
      ledger_.excuses.connections = true;
      faults.fail_reads_after = faults.fail_writes_after = 0;
      if (dice_.Chance(50)) link.SetFaults(end == Link::kClient ? Link::kServer : Link::kClient, faults);
      break;
    case Event::kEndOfBytes:
      ledger_.excuses.connections = true;
      faults.end_reads_after = 0;
      break;
    default:
      ledger_.excuses.connections = true;
      (dice_.Chance(50)   ? faults.end_reads_after
       : dice_.Chance(50) ? faults.fail_reads_after
                          : faults.fail_writes_after) = dice_.Below(character_.bulk ? 500'000 : 2'000);
      break;
  }
  link.SetFaults(end, faults);
  return true;
}

bool World::DoLife(Event event) {
  if (event == Event::kDestroyChannel) {
    if (callers_.empty()) return false;
    Caller& caller = *callers_[dice_.Below(callers_.size())];
    if (!caller.is_open()) return false;
    if (dice_.Chance(70)) {
      caller.Close();
    } else {
      client_loop_->Post([&caller] {
        if (caller.is_open()) caller.Close();
      });
    }
    return true;
  }
  if (event == Event::kNewServer) {
    const size_t most = character_.places == 0 ? kMaxHosts : kMaxHostsOfFleet * character_.places;
    const size_t place = dice_.Below(places());
    if (hosts_.size() >= most || (ListeningHost(place) != nullptr && !dice_.Chance(10))) return false;
    OpenHost(place);
    return true;
  }
  if (event == Event::kNewList) {
    if (character_.places == 0) return false;
    if (dice_.Chance(90)) {
      TellNames();
    } else {
      ledger_.excuses.names = true;
      names_.Fail(absl::NotFoundError("simulated: no such name"));
    }
    return true;
  }
  ledger_.excuses.connections = true;
  Host& host = *hosts_[dice_.Below(hosts_.size())];
  if (event == Event::kDrain) {
    host.Drain();
  } else {
    host.Close();
  }
  return true;
}

void World::Count(Outcome& outcome) const {
  for (const CallRecord& call : ledger_.calls()) {
    ++outcome.calls;
    outcome.executed += call.executions > 0 ? 1 : 0;
    if (call.ends > 0) {
      ++outcome.ended[static_cast<size_t>(call.status.code())];
    } else {
      ++outcome.dropped;
    }
    outcome.fingerprint = Scatter(outcome.fingerprint ^ static_cast<uint64_t>(call.status.code()) ^
                                  (call.replies_read << 8) ^ (call.requests_read << 24));
  }
  outcome.complaints = ledger_.complaints();
}

}  // namespace ferry::simulation
