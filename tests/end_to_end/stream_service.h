// The handlers that the tests of streams talk to.
#ifndef FERRY_TESTS_END_TO_END_STREAM_SERVICE_H_
#define FERRY_TESTS_END_TO_END_STREAM_SERVICE_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/streaming_call.h"
#include "tests/end_to_end/streams.ferry.h"

namespace ferry::test::e2e {

// A TestStreams does what streams.proto says.
//
// Thread-safe.
class TestStreams final : public StreamsService {
 public:
  absl::Status Collect(ServerContext& context, StreamReader<Part>& requests, Part& reply) override;
  void StartCollectLater(ClientStreamingCall<Part, Part> call) override;
  absl::Status Send(ServerContext& context, const Part& request, StreamWriter<Part>& replies) override;
  void StartSendLater(ServerStreamingCall<Part, Part> call) override;
  absl::Status PingPong(ServerContext& context, StreamReader<Part>& requests,
                        StreamWriter<Part>& replies) override;
  void StartPingPongLater(BidiStreamingCall<Part, Part> call) override;
  absl::Status CollectWhenTold(ServerContext& context, StreamReader<Part>& requests, Part& reply) override;
  absl::Status SendForever(ServerContext& context, const Part& request, StreamWriter<Part>& replies) override;
  absl::Status Metadata(ServerContext& context, const Part& request, StreamWriter<Part>& replies) override;

  // Lets handlers of CollectWhenTold go, now and from now on.
  void LetGo() ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits for the end of `count` handlers, of any method; whether they have ended.
  bool WaitForEnded(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until `count` handlers of CollectWhenTold or SendForever have begun.
  bool WaitForBegun(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many parts handlers of SendForever have written.
  uint64_t sent() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status Ended(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool let_go_ ABSL_GUARDED_BY(mutex_) = false;
  size_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ended_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t sent_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The status that a part asks for.
absl::Status StatusOf(const Part& part);

// A part with an id and a payload of `size` bytes that depend on it.
Part PartOf(uint64_t id, size_t size);

}  // namespace ferry::test::e2e

#endif  // FERRY_TESTS_END_TO_END_STREAM_SERVICE_H_
