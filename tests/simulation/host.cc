#include "tests/simulation/host.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/metadata.h"
#include "tests/simulation/dice.h"

namespace ferry::simulation {

class Host::Sessions final : public ServerSession::Shared {
 public:
  explicit Sessions(const Options& options) : Shared({}, 1024 * 1024 * 1024) {
    settings = options.settings;
    connection.limits = settings.frame_limits();
    connection.wait_for_preface = true;
    max_request_bytes_per_connection = options.max_request_bytes_per_connection;
    max_reply_bytes_per_connection = options.max_reply_bytes_per_connection;
    log = [](std::string_view) {};
  }
  void OnSessionEnded(ServerSession& session) override {
    session.loop().Post([ended = session.shared_from_this()] {});
    std::erase_if(open, [&](const auto& one) { return one.get() == &session; });
  }

  std::vector<std::shared_ptr<ServerSession>> open;
};

Host::Host(const Options& options, transport::EventLoop& loop, Ledger& ledger)
    : options_(options),
      loop_(loop),
      ledger_(ledger),
      executor_(options.executor_capacity),
      sessions_(std::make_shared<Sessions>(options)) {
  sessions_->executor = &executor_;
  absl::Status ready = sessions_->methods.Add(*this);
  for (const char* method : {"Upload", "Watch", "Talk"}) {
    ready.Update(sessions_->methods.SetInline(absl::StrCat("ferry.simulation.Simulated/", method),
                                              options.streams_inline));
  }
  if (!ready.ok()) ledger_.Complain(ready.ToString());
  sessions_->methods.PrepareFor(1);
}

Host::~Host() = default;

void Host::Accept(std::unique_ptr<transport::ByteStream> stream) {
  loop_.Post([this, stream = std::move(stream)]() mutable {
    if (!listening_) return;
    auto session = std::make_shared<ServerSession>(sessions_, loop_, 0, std::move(stream));
    sessions_->open.push_back(session);
    all_sessions_.push_back(session);
    session->Begin();
  });
}

void Host::Drain() {
  listening_ = false;
  loop_.Post([this] {
    for (const std::shared_ptr<ServerSession>& session : std::vector(sessions_->open)) session->Drain();
  });
}

void Host::Close() {
  listening_ = false;
  loop_.Post([this] {
    for (const std::shared_ptr<ServerSession>& session : std::vector(sessions_->open)) {
      session->Close(absl::CancelledError("the server shut down"));
    }
  });
}

bool Host::RunTask() { return executor_.RunOne(); }

const std::vector<std::shared_ptr<ServedCall>>& Host::kept() {
  std::erase_if(kept_, [](const std::shared_ptr<ServedCall>& call) { return call->done(); });
  return kept_;
}

void Host::CheckNothingHeld() {
  for (const auto& call : kept()) {
    ledger_.Complain(
        absl::StrCat("the callbacks of the handler of call ", call->record().id, " are not run"));
  }
  if (executor_.waiting() > 0) ledger_.Complain("the executor has tasks");
  if (const size_t used = sessions_->request_budget.used(); used != 0) {
    ledger_.Complain(absl::StrCat("requests hold ", used, " bytes of the server's budget"));
  }
  if (!sessions_->open.empty()) ledger_.Complain("a server's session is open");
  for (const auto& session : all_sessions_) {
    if (!session.expired()) ledger_.Complain("a server's session is kept");
  }
  for (const auto& call : all_calls_) {
    if (!call.expired()) ledger_.Complain("a callback of a handler is kept");
  }
  const std::weak_ptr<Sessions> sessions = sessions_;
  sessions_ = nullptr;
  if (!sessions.expired()) ledger_.Complain("what a server's sessions share is kept");
}

// ---------------------------------------------------------------- Handlers

namespace {

// Which call it is, by its metadata.
uint64_t IdOf(const ServerContext& context) {
  uint64_t id = 0;
  const std::string* const value = context.request_metadata().Find("call");
  return value != nullptr && absl::SimpleAtoi(*value, &id) ? id : 0;
}

}  // namespace

void Host::StartQuick(UnaryCall<Message, Message> call) {
  const uint64_t id = call.request().call();
  Serve(id, std::move(call));
}

void Host::StartSlow(UnaryCall<Message, Message> call) {
  const uint64_t id = call.request().call();
  Serve(id, std::move(call));
}

void Host::StartUpload(ClientStreamingCall<Message, Message> call) {
  const uint64_t id = IdOf(call.context());
  Serve(id, std::move(call));
}

void Host::StartWatch(ServerStreamingCall<Message, Message> call) {
  const uint64_t id = IdOf(call.context());
  Serve(id, std::move(call));
}

void Host::StartTalk(BidiStreamingCall<Message, Message> call) {
  const uint64_t id = IdOf(call.context());
  Serve(id, std::move(call));
}

// What a handler does follows from the call's number alone, so that it does not depend on the order in which
// handlers are started.
void Host::Serve(uint64_t id, ServedCall::Handle handle) {
  CallRecord* record = ledger_.Find(id);
  if (record == nullptr) return;
  ledger_.OnExecuted(*record);
  Dice dice(options_.seed + id);
  const ServedCall::Habits habits{.callbacks = dice.Chance(50),
                                  .reads_on = static_cast<int>(dice.Below(4)),
                                  .watches_cancel = dice.Chance(50),
                                  .answers_at_cancel = dice.Chance(50)};
  auto call = std::make_shared<ServedCall>(ledger_, *record, habits, std::move(handle));
  call->Begin();
  all_calls_.push_back(call);
  kept_.push_back(call);
  if (record->kind == CallKind::kUnary) {
    if (!dice.Chance(options_.kept)) call->Answer(dice.Below(100));
    return;
  }
  for (uint64_t steps = dice.Below(4); steps > 0; --steps) {
    if (dice.Chance(50)) {
      call->Read();
    } else {
      call->Write(dice.Below(100));
    }
  }
  if (dice.Chance(10)) call->Answer(dice.Below(100));
}

}  // namespace ferry::simulation
