// The client's forms of calls behind one interface, so that a case is written once.
#ifndef FERRY_TESTS_CONFORMANCE_CALLER_H_
#define FERRY_TESTS_CONFORMANCE_CALLER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "tests/conformance/conformance.pb.h"
#include "tests/conformance/mode.h"

namespace ferry::test::conformance {

// A StreamCall is a call that streams, in one of the forms. Every operation waits until it is done.
//
// Thread-compatible, but for Cancel. Destroyed before its end it cancels its call.
class StreamCall {
 public:
  virtual ~StreamCall() = default;

  // REQUIRES: the call has a stream of requests.
  virtual bool Write(const Request& request) = 0;
  // REQUIRES: the call has a stream of replies.
  virtual bool Read(Reply& reply) = 0;
  // REQUIRES: the call has both.
  virtual bool WritesDone() = 0;
  virtual void Cancel() = 0;
  // The reply is empty if replies are streamed.
  virtual absl::StatusOr<Reply> Finish() = 0;
};

// A UnaryResult is a unary call that is under way.
class UnaryResult {
 public:
  virtual ~UnaryResult() = default;
  // Waits for the end. Once.
  virtual absl::StatusOr<Reply> Wait() = 0;
};

// What of the service to call.
enum class Target { kServed, kMissingMethod, kAbsentService };

// A Caller makes calls in one of the forms.
//
// Thread-safe. It must outlive its calls.
class Caller {
 public:
  virtual ~Caller() = default;

  // Calls and waits.
  virtual absl::StatusOr<Reply> Unary(const Request& request, const CallOptions& options = {},
                                      Target target = Target::kServed) = 0;
  // Starts a call.
  virtual std::unique_ptr<UnaryResult> StartUnary(const Request& request,
                                                  const CallOptions& options = {}) = 0;

  virtual std::unique_ptr<StreamCall> Upload(const CallOptions& options = {}) = 0;
  virtual std::unique_ptr<StreamCall> Download(const Request& request, const CallOptions& options = {}) = 0;
  virtual std::unique_ptr<StreamCall> Converse(const CallOptions& options = {},
                                               Target target = Target::kServed) = 0;
};

// `channel` is not owned, must outlive the caller.
std::unique_ptr<Caller> NewCaller(Form form, Channel& channel);

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_CALLER_H_
