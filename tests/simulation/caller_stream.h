// A call that streams, as a client of the simulation uses it.
#ifndef FERRY_TESTS_SIMULATION_CALLER_STREAM_H_
#define FERRY_TESTS_SIMULATION_CALLER_STREAM_H_

#include <cstddef>
#include <memory>
#include <optional>

#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/stream_io.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/simulation.pb.h"

namespace ferry::simulation {

// A CallerStream is an application that reads and writes one stream, step by step, and writes down what it
// sees. A step that would break the rules of streams does nothing; each says whether it did something.
//
// Thread-compatible. Owned by shared_ptr: callbacks hold it.
class CallerStream final : public std::enable_shared_from_this<CallerStream> {
 public:
  struct Habits {
    // Reads and writes with callbacks rather than without waiting.
    bool callbacks = false;
    // How many messages a callback of Read reads on.
    int reads_on = 0;
    // Which callback of Read drops the stream, from 1; 0 is none.
    int drops_at_read = 0;
  };

  CallerStream(Ledger& ledger, CallRecord& record, const Habits& habits,
               const std::shared_ptr<ClientStreamCall>& call);

  bool Write(size_t size);
  bool Read();
  bool WritesDone();
  // Asks for the call's status.
  bool Finish();
  bool Cancel();
  // Destroys the handle.
  bool Drop();
  // Goes on towards the end of the call.
  void Settle();

  const CallRecord& record() const { return record_; }
  // Whether there is nothing more to do with it.
  bool done() const { return !has_handle() && !write_pending_ && !read_pending_; }

 private:
  bool has_handle() const { return watch_.has_value() || upload_.has_value() || talk_.has_value(); }
  ClientStreamHandle& handle();
  StreamReader<Message>* reader();
  StreamWriter<Message>* writer();
  void OnRead(bool message);
  void OnEnd(const absl::Status& status, const Message* reply);

  Ledger& ledger_;
  CallRecord& record_;
  Habits habits_;
  // The handle, until it is dropped: one of these.
  std::optional<ServerStream<Message>> watch_;
  std::optional<ClientStream<Message, Message>> upload_;
  std::optional<BidiStream<Message, Message>> talk_;
  Message incoming_;
  bool write_pending_ = false;
  bool read_pending_ = false;
  int callback_reads_ = 0;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_CALLER_STREAM_H_
