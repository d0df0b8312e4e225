#include "tests/conformance/caller.h"

#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "ferry/rpc/callback.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/stream_io.h"
#include "ferry/rpc/task.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"
#include "tests/conformance/conformance.ferry.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {
namespace {

using e2e::Later;

// The streams of a form whose operations Operations has.
template <typename Operations, typename Stream>
class StreamCallOver final : public StreamCall {
 public:
  StreamCallOver(Operations operations, Stream stream)
      : operations_(operations), stream_(std::move(stream)) {}

  bool Write(const Request& request) override {
    if constexpr (std::is_base_of_v<StreamWriter<Request>, Stream>) {
      return operations_.Write(stream_, request);
    }
    FERRY_CHECK(false, "the call has no stream of requests");
  }
  bool Read(Reply& reply) override {
    if constexpr (std::is_base_of_v<StreamReader<Reply>, Stream>) return operations_.Read(stream_, reply);
    FERRY_CHECK(false, "the call has no stream of replies");
  }
  bool WritesDone() override {
    if constexpr (std::is_same_v<BidiStream<Request, Reply>, Stream>) return stream_.WritesDone();
    FERRY_CHECK(false, "the call has not both streams");
  }
  void Cancel() override { stream_.Cancel(); }
  absl::StatusOr<Reply> Finish() override { return ReplyOr(operations_.Finish(stream_)); }

 private:
  static absl::StatusOr<Reply> ReplyOr(absl::StatusOr<Reply> reply) { return reply; }
  static absl::StatusOr<Reply> ReplyOr(const absl::Status& status) {
    if (!status.ok()) return status;
    return Reply();
  }

  const Operations operations_;
  Stream stream_;
};

// What the forms have in common: they start calls that stream in one way, and differ in what follows.
template <typename Operations>
class CallerInForm : public Caller {
 public:
  CallerInForm(Channel& channel, Operations operations)
      : operations_(operations), stub_(channel), absent_(channel) {}

  std::unique_ptr<StreamCall> Upload(const CallOptions& options) override {
    return InForm(stub_.Upload(options));
  }
  std::unique_ptr<StreamCall> Download(const Request& request, const CallOptions& options) override {
    return InForm(stub_.Download(request, options));
  }
  std::unique_ptr<StreamCall> Converse(const CallOptions& options, Target target) override {
    switch (target) {
      case Target::kServed:
        return InForm(stub_.Converse(options));
      case Target::kMissingMethod:
        return InForm(stub_.MissingStream(options));
      case Target::kAbsentService:
        return InForm(absent_.Converse(options));
    }
    return nullptr;
  }

 protected:
  const Operations& operations() const { return operations_; }
  ConformanceStub& stub() { return stub_; }
  AbsentStub& absent() { return absent_; }

 private:
  template <typename Stream>
  std::unique_ptr<StreamCall> InForm(Stream stream) const {
    return std::make_unique<StreamCallOver<Operations, Stream>>(operations_, std::move(stream));
  }

  const Operations operations_;
  ConformanceStub stub_;
  AbsentStub absent_;
};

// ---------------------------------------------------------------- Blocking

struct BlockingOperations {
  bool Write(StreamWriter<Request>& stream, const Request& request) const { return stream.Write(request); }
  bool Read(StreamReader<Reply>& stream, Reply& reply) const { return stream.Read(reply); }
  template <typename Stream>
  auto Finish(Stream& stream) const {
    return stream.Finish();
  }
};

// A call on a thread of its own.
class ThreadResult final : public UnaryResult {
 public:
  template <typename F>
  explicit ThreadResult(F call) : thread_([this, call = std::move(call)] { reply_ = call(); }) {}
  ~ThreadResult() override {
    if (thread_.joinable()) thread_.join();
  }

  absl::StatusOr<Reply> Wait() override {
    thread_.join();
    return std::move(reply_);
  }

 private:
  absl::StatusOr<Reply> reply_ = absl::UnknownError("the call has not ended");
  std::thread thread_;
};

class BlockingCaller final : public CallerInForm<BlockingOperations> {
 public:
  explicit BlockingCaller(Channel& channel) : CallerInForm(channel, {}) {}

  absl::StatusOr<Reply> Unary(const Request& request, const CallOptions& options, Target target) override {
    switch (target) {
      case Target::kServed:
        return stub().Unary(request, options);
      case Target::kMissingMethod:
        return stub().Missing(request, options);
      case Target::kAbsentService:
        return absent().Unary(request, options);
    }
    return absl::InternalError("no such target");
  }
  std::unique_ptr<UnaryResult> StartUnary(const Request& request, const CallOptions& options) override {
    return std::make_unique<ThreadResult>(
        [this, request, options] { return stub().Unary(request, options); });
  }
};

// ---------------------------------------------------------------- Callback

struct CallbackOperations {
  bool Write(StreamWriter<Request>& stream, const Request& request) const {
    Later<bool> written;
    stream.Write(request, [&written](bool ok) { written.Set(ok); });
    return written.Wait();
  }
  bool Read(StreamReader<Reply>& stream, Reply& reply) const {
    Later<bool> read;
    stream.Read(reply, [&read](bool ok) { read.Set(ok); });
    return read.Wait();
  }
  template <typename Stream>
  auto Finish(Stream& stream) const {
    using Result = decltype(stream.Finish());
    Later<Result> ended;
    stream.Finish([&ended](Result result) { ended.Set(std::move(result)); });
    return std::move(ended.Wait());
  }
};

class CallbackResult final : public UnaryResult {
 public:
  ReplyCallback<Reply> Callback() {
    return [this](absl::StatusOr<Reply> reply) { reply_.Set(std::move(reply)); };
  }

  absl::StatusOr<Reply> Wait() override { return std::move(reply_.Wait()); }

 private:
  Later<absl::StatusOr<Reply>> reply_;
};

class CallbackCaller final : public CallerInForm<CallbackOperations> {
 public:
  explicit CallbackCaller(Channel& channel) : CallerInForm(channel, {}) {}

  absl::StatusOr<Reply> Unary(const Request& request, const CallOptions& options, Target target) override {
    CallbackResult result;
    switch (target) {
      case Target::kServed:
        stub().Unary(request, options, result.Callback());
        break;
      case Target::kMissingMethod:
        stub().Missing(request, options, result.Callback());
        break;
      case Target::kAbsentService:
        absent().Unary(request, options, result.Callback());
        break;
    }
    return result.Wait();
  }
  std::unique_ptr<UnaryResult> StartUnary(const Request& request, const CallOptions& options) override {
    auto result = std::make_unique<CallbackResult>();
    stub().Unary(request, options, result->Callback());
    return result;
  }
};

// ---------------------------------------------------------------- Coroutine

// Each operation is a task of its own, on the channel's loop.
struct CoroutineOperations {
  transport::EventLoop* loop;

  bool Write(StreamWriter<Request>& stream, const Request& request) const {
    return BlockOn(*loop, WriteTask(stream, request));
  }
  bool Read(StreamReader<Reply>& stream, Reply& reply) const {
    return BlockOn(*loop, ReadTask(stream, reply));
  }
  template <typename Stream>
  auto Finish(Stream& stream) const {
    return BlockOn(*loop, FinishTask(stream));
  }

 private:
  static Task<bool> WriteTask(StreamWriter<Request>& stream, const Request& request) {
    co_return co_await stream.CoWrite(request);
  }
  static Task<bool> ReadTask(StreamReader<Reply>& stream, Reply& reply) {
    co_return co_await stream.CoRead(reply);
  }
  template <typename Stream>
  static Task<decltype(std::declval<Stream>().Finish())> FinishTask(Stream& stream) {
    co_return co_await stream.CoFinish();
  }
};

class CoroutineCaller final : public CallerInForm<CoroutineOperations> {
 public:
  explicit CoroutineCaller(Channel& channel) : CallerInForm(channel, CoroutineOperations{&channel.loop()}) {}

  absl::StatusOr<Reply> Unary(const Request& request, const CallOptions& options, Target target) override {
    return BlockOn(*operations().loop, UnaryTask(request, options, target));
  }
  std::unique_ptr<UnaryResult> StartUnary(const Request& request, const CallOptions& options) override {
    auto result = std::make_unique<CallbackResult>();
    Spawn(*operations().loop, stub().CoUnary(request, options), result->Callback());
    return result;
  }

 private:
  Task<absl::StatusOr<Reply>> UnaryTask(const Request& request, const CallOptions& options, Target target) {
    switch (target) {
      case Target::kServed:
        co_return co_await stub().CoUnary(request, options);
      case Target::kMissingMethod:
        co_return co_await stub().CoMissing(request, options);
      case Target::kAbsentService:
        co_return co_await absent().CoUnary(request, options);
    }
    co_return absl::InternalError("no such target");
  }
};

}  // namespace

std::unique_ptr<Caller> NewCaller(Form form, Channel& channel) {
  if (form == Form::kCoroutine) return std::make_unique<CoroutineCaller>(channel);
  if (form == Form::kCallback) return std::make_unique<CallbackCaller>(channel);
  return std::make_unique<BlockingCaller>(channel);
}

}  // namespace ferry::test::conformance
