// A client of the simulation.
#ifndef FERRY_TESTS_SIMULATION_CALLER_H_
#define FERRY_TESTS_SIMULATION_CALLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <vector>

#include "absl/time/time.h"
#include "ferry/rpc/call_target.h"
#include "ferry/rpc/client_call.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/endpoint.h"
#include "ferry/rpc/fleet.h"
#include "ferry/transport/event_loop.h"
#include "tests/simulation/caller_stream.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/network.h"
#include "tests/simulation/service_names.h"
#include "tests/simulation/simulation.pb.h"

namespace ferry::simulation {

// A CallPlan is how a call is made and what its callbacks do.
struct CallPlan {
  size_t request_size = 0;
  absl::Duration timeout = absl::InfiniteDuration();
  bool wait_for_ready = false;
  // Unary: the method is idempotent.
  bool idempotent = false;
  // Unary: the method that runs on the executor.
  bool on_executor = false;
  // Unary: the id goes in the metadata too, as it does with streams.
  bool with_metadata = false;
  // Unary: has a stop token.
  bool cancellable = false;
  // Unary: how many calls follow, each started by the callback of the one before.
  int followers = 0;
  // Unary: the callback destroys the channel.
  bool close_at_end = false;
  // Streams.
  CallerStream::Habits habits = {};
};

// A Caller is a client: an Endpoint or a Fleet, which it uses as a Channel does, and the calls made over it.
// (A Channel's loop has a thread of its own.)
//
// Thread-compatible. It must outlive its calls.
class Caller {
 public:
  // Of the network's first place. Of `options` the caller sets what keeps things alive.
  Caller(const Endpoint::Options& options, transport::EventLoop& loop, Network& network, Ledger& ledger);
  // Of the places that `names` tell.
  Caller(const Fleet::Options& options, transport::EventLoop& loop, Network& network, Ledger& ledger,
         ServiceNames& names);

  // Here and now, on the loop or not. REQUIRES: is_open().
  void StartUnary(const CallPlan& plan);
  void StartStream(CallKind kind, const CallPlan& plan);

  // Requests a stop of one of the unary calls that can be cancelled, as `choice` says; false if there is
  // none.
  bool CancelUnary(uint64_t choice);

  // As a channel that is destroyed: the calls end with CANCELLED, once the loop runs.
  void Close();
  bool is_open() const { return target_ != nullptr; }

  // Streams that the application has not let go of, or which still have something to tell.
  const std::vector<std::shared_ptr<CallerStream>>& streams();

  // Complains of what is left of a closed caller.
  void CheckNothingHeld();

 private:
  // What lives as long as the endpoint, as for a Channel.
  struct Shared {
    explicit Shared(transport::EventLoop& loop) : calls(loop) {}
    ClientCallPool<Message> calls;
  };

  // Of calls that can be cancelled.
  struct Stop {
    CallRecord* record = nullptr;
    std::stop_source source = {};
  };

  Endpoint::Options Own(Endpoint::Options options) const;
  void Open(std::shared_ptr<CallTarget> target);
  CallRecord& Begin(CallKind kind, const CallPlan& plan);
  void Start(const MethodDescriptor& method, const Message& request, const CallPlan& plan, CallRecord& record,
             ClientCall& call);
  void OnUnaryEnd(CallRecord& record, CallPlan plan, const absl::StatusOr<Message>& reply);

  transport::EventLoop& loop_;
  Ledger& ledger_;
  std::shared_ptr<Shared> shared_;
  // Stands for the loops of a channel's own.
  std::shared_ptr<int> loops_ = std::make_shared<int>();
  // A Fleet, or an Endpoint: fleet_ is null then.
  std::shared_ptr<CallTarget> target_;
  Fleet* fleet_ = nullptr;
  std::weak_ptr<CallTarget> weak_target_;
  std::weak_ptr<Shared> weak_shared_;
  std::weak_ptr<int> weak_loops_;
  std::vector<CallRecord*> records_;
  std::vector<Stop> stops_;
  std::vector<std::shared_ptr<CallerStream>> streams_;
  std::vector<std::weak_ptr<CallerStream>> all_streams_;
  std::vector<std::weak_ptr<ClientStreamCall>> stream_calls_;
};

}  // namespace ferry::simulation

#endif  // FERRY_TESTS_SIMULATION_CALLER_H_
