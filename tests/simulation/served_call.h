// A call, as a handler of the simulation serves it.
#ifndef FERRY_TESTS_SIMULATION_SERVED_CALL_H_
#define FERRY_TESTS_SIMULATION_SERVED_CALL_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/streaming_call.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/simulation.pb.h"

namespace ferry::simulation {

// A ServedCall is a handler that has kept its call: it reads, writes and answers step by step, and writes
// down what it sees. As CallerStream.
//
// Thread-compatible. Owned by shared_ptr: callbacks hold it.
class ServedCall final : public std::enable_shared_from_this<ServedCall> {
 public:
  using Unary = UnaryCall<Message, Message>;
  using Upload = ClientStreamingCall<Message, Message>;
  using Watch = ServerStreamingCall<Message, Message>;
  using Talk = BidiStreamingCall<Message, Message>;
  // Empty once it is answered.
  using Handle = std::variant<std::monostate, Unary, Upload, Watch, Talk>;

  struct Habits {
    // Reads and writes with callbacks rather than without waiting.
    bool callbacks = false;
    // How many messages a callback of Read reads on.
    int reads_on = 0;
    // What it does when the call is cancelled.
    bool watches_cancel = false;
    bool answers_at_cancel = false;
  };

  ServedCall(Ledger& ledger, CallRecord& record, const Habits& habits, Handle handle)
      : ledger_(ledger), record_(record), habits_(habits), handle_(std::move(handle)) {}

  // Begins to listen for the call's cancellation, if that is a habit.
  void Begin();

  bool Write(size_t size);
  bool Read();
  // Answers with OK and a reply with a payload of `size` bytes, if there is a single one; or with an error.
  bool Answer(size_t size);
  bool Fail(const absl::Status& why);
  // Destroys the handle without an answer.
  bool Drop();
  // Goes on towards the end of the call.
  void Settle();

  const CallRecord& record() const { return record_; }
  bool answered() const { return handle_.index() == 0; }
  // Whether there is nothing more to do with it.
  bool done() const { return answered() && !write_pending_ && !read_pending_; }

 private:
  ServerContext& context();
  bool has_reader() const {
    return std::holds_alternative<Upload>(handle_) || std::holds_alternative<Talk>(handle_);
  }
  bool has_writer() const {
    return std::holds_alternative<Watch>(handle_) || std::holds_alternative<Talk>(handle_);
  }
  StreamReader<Message> reader();
  StreamWriter<Message> writer();
  void OnRead(bool message);
  void OnCancel();
  void Finish(const absl::Status& status);

  Ledger& ledger_;
  CallRecord& record_;
  Habits habits_;
  Handle handle_;
  Message incoming_;
  bool write_pending_ = false;
  bool read_pending_ = false;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_SERVED_CALL_H_
