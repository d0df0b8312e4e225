// A server of the simulation.
#ifndef FERRY_TESTS_SIMULATION_HOST_H_
#define FERRY_TESTS_SIMULATION_HOST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ferry/rpc/server_session.h"
#include "ferry/rpc/wire.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/event_loop.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/served_call.h"
#include "tests/simulation/simulation.ferry.h"
#include "tests/testing/manual_executor.h"

namespace ferry::simulation {

// A Host is a server: sessions and a service whose handlers do as the schedule says, here and now or later.
// (A Server's loops have threads of their own.)
//
// Thread-compatible. It must outlive the calls it serves.
class Host final : private SimulatedService {
 public:
  struct Options {
    WireSettings settings;
    size_t executor_capacity = 1000;
    size_t max_request_bytes_per_connection = 128 * 1024 * 1024;
    size_t max_reply_bytes_per_connection = 128 * 1024 * 1024;
    // The methods that stream run on the loop.
    bool streams_inline = false;
    // Of the handlers' habits.
    uint64_t seed = 0;
    // How many of 100 unary calls are kept, to be answered later.
    uint64_t kept = 50;
    // Where it listens.
    size_t place = 0;
  };

  Host(const Options& options, transport::EventLoop& loop, Ledger& ledger);
  ~Host() override;

  // Serves a new connection, unless the host listens no more by the time that the loop runs.
  void Accept(std::unique_ptr<transport::ByteStream> stream);
  bool listening() const { return listening_; }
  size_t place() const { return options_.place; }

  // As Server::Shutdown begins, and as it ends. Takes effect when the loop runs.
  void Drain();
  void Close();

  // Runs the task of the executor that has waited longest; false if there is none.
  bool RunTask();

  // Calls that handlers have kept, or that still have something to tell.
  const std::vector<std::shared_ptr<ServedCall>>& kept();

  // Complains of what is left when everything has ended.
  void CheckNothingHeld();

 private:
  class Sessions;

  void StartQuick(UnaryCall<Message, Message> call) override;
  void StartSlow(UnaryCall<Message, Message> call) override;
  void StartUpload(ClientStreamingCall<Message, Message> call) override;
  void StartWatch(ServerStreamingCall<Message, Message> call) override;
  void StartTalk(BidiStreamingCall<Message, Message> call) override;
  void Serve(uint64_t id, ServedCall::Handle handle);

  const Options options_;
  transport::EventLoop& loop_;
  Ledger& ledger_;
  test::ManualExecutor executor_;
  std::shared_ptr<Sessions> sessions_;
  std::vector<std::weak_ptr<ServerSession>> all_sessions_;
  std::vector<std::shared_ptr<ServedCall>> kept_;
  std::vector<std::weak_ptr<ServedCall>> all_calls_;
  bool listening_ = true;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_HOST_H_
