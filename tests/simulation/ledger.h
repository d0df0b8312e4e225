// What is known of every call of a schedule, and what must be true of it.
#ifndef FERRY_TESTS_SIMULATION_LEDGER_H_
#define FERRY_TESTS_SIMULATION_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/clock.h"
#include "tests/simulation/simulation.pb.h"

namespace ferry::simulation {

enum class CallKind { kUnary, kUpload, kWatch, kTalk };
absl::string_view CallKindName(CallKind kind);

// A CallRecord is one call as both sides have it. The two sides write down what they do before they do it.
struct CallRecord {
  uint64_t id = 0;
  CallKind kind = CallKind::kUnary;
  // May be executed several times.
  bool idempotent = false;
  transport::Instant deadline = transport::Instant::Infinite();

  // The client's side.
  bool cancelled = false;  // the caller has cancelled it, or destroyed its stream or channel
  uint64_t request_digest = 0;
  uint64_t requests_written = 0;
  bool requests_ended = false;
  uint64_t replies_read = 0;
  bool replies_read_to_end = false;
  bool asked_for_status = false;
  int ends = 0;
  absl::Status status;
  // It was said to have surely not been executed.
  bool not_sent = false;

  // The server's side.
  int executions = 0;
  // Of each execution.
  std::vector<absl::Status> answers;
  uint64_t requests_read = 0;
  bool requests_read_to_end = false;
  uint64_t replies_written = 0;
};

// The bytes of a message, and a number that stands for them.
std::string Payload(uint64_t call, bool reply, uint64_t index, size_t size);
uint64_t Digest(absl::string_view bytes);

// A Ledger keeps the calls of one schedule and finds out what must not be.
//
// Thread-compatible.
class Ledger {
 public:
  // What may end calls in other ways than their handlers and callers do.
  struct Excuses {
    // A connection was cut, refused, closed, drained or timed out.
    bool connections = false;
    // There were no servers, or they could not be found.
    bool names = false;
    // A limit was small enough to be met.
    bool limits = false;
    // Calls of idempotent methods may be sent to several servers at once.
    bool hedges = false;
  };

  // What becomes of calls is written to `trace` too, unless that is null; not owned.
  explicit Ledger(const transport::Clock& clock, std::ostream* trace = nullptr)
      : clock_(clock), trace_(trace) {}

  // A new call, whose id is its number from 1.
  CallRecord& Begin(CallKind kind, transport::Instant deadline);
  // nullptr, which is a complaint, if there is none.
  CallRecord* Find(uint64_t id);

  // ---- What the server's handlers see

  void OnExecuted(CallRecord& call);
  void OnRequest(CallRecord& call, const Message& request);
  // The handler has read the last of a stream of requests.
  void OnRequestsEnd(CallRecord& call, bool cancelled);
  // The handler is told that nobody waits any more.
  void OnCancelled(const CallRecord& call);
  // The handler is about to finish.
  void OnAnswer(CallRecord& call, const absl::Status& answer);

  // ---- What the client sees

  void OnReply(CallRecord& call, const Message& reply);
  void OnRepliesEnd(CallRecord& call);
  // The call has ended. `reply` is the only one, of a call that has one and ended with OK.
  void OnEnd(CallRecord& call, const absl::Status& status, const Message* reply);

  // ---- What must be true

  // No call is left that should have ended by now. To be called when the client has done all that it can.
  void CheckPunctual();
  // Every call whose end somebody waits for has ended.
  void CheckAllEnded();
  bool all_ended() const;

  void Complain(std::string what);
  const std::vector<std::string>& complaints() const { return complaints_; }
  const std::deque<CallRecord>& calls() const { return calls_; }

  Excuses excuses;

 private:
  static bool IsAnswer(const CallRecord& call, const absl::Status& status);
  bool IsExplained(const CallRecord& call, const absl::Status& status) const;
  void CheckOk(const CallRecord& call, const Message* reply);
  void ComplainOf(const CallRecord& call, absl::string_view what);
  void Trace(const CallRecord& call, absl::string_view what);

  const transport::Clock& clock_;
  std::ostream* const trace_;
  std::deque<CallRecord> calls_;
  std::vector<CallRecord*> open_;  // those that have not ended, as far as was seen
  std::vector<std::string> complaints_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_LEDGER_H_
