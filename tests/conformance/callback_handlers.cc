#include "tests/conformance/callback_handlers.h"

#include <memory>
#include <utility>

#include "ferry/rpc/stream_io.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/script.h"

namespace ferry::test::conformance {
namespace {

// A KeptCall is a call that whoever will go on with it keeps, until it has ended.
template <typename Call>
class KeptCall : public std::enable_shared_from_this<KeptCall<Call>> {
 public:
  KeptCall(HandlerLog& log, Call call) : call_(std::move(call)), script_(log, call_.context()) {}

 protected:
  Call& call() { return call_; }
  Script& script() { return script_; }

  void End(absl::Status status) { std::move(call_).Finish(script_.End(std::move(status))); }

  // Once all is done: now, or when the call is cancelled if that was asked for.
  void EndOrSleep(const absl::Status& status) {
    if (!script_.sleeps()) return End(status);
    script_.BeginSleep();
    call_.context().OnCancel([self = this->shared_from_this(), status] { self->End(status); });
  }

 private:
  Call call_;
  Script script_;
};

class KeptUnary final : public KeptCall<UnaryCall<Request, Reply>> {
 public:
  using KeptCall::KeptCall;

  void Start() {
    const Request& request = call().request();
    if (absl::Status taken = script().Take(request); !taken.ok()) return End(taken);
    call().reply() = script().NextReply(request.reply_sizes_size() > 0 ? request.reply_sizes(0) : 0);
    EndOrSleep(StatusOf(request));
  }
};

class KeptUpload final : public KeptCall<ClientStreamingCall<Request, Reply>> {
 public:
  using KeptCall::KeptCall;

  void Next() {
    requests_.Read(request_, [this, self = shared_from_this()](bool read) { OnRead(read); });
  }

 private:
  void OnRead(bool read) {
    if (!read) {
      call().reply() = script().NextReply(0);
      return EndOrSleep(absl::OkStatus());
    }
    if (absl::Status taken = script().Take(request_); !taken.ok()) return End(taken);
    if (!request_.end()) return Next();
    call().reply() = script().NextReply(0);
    End(StatusOf(request_));
  }

  StreamReader<Request> requests_ = call().requests();
  Request request_;
};

// Answers requests with a reply for each of their sizes.
template <typename Call>
class KeptAnswers : public KeptCall<Call> {
 public:
  using KeptCall<Call>::KeptCall;

 protected:
  void Answer(const Request& request) {
    if (absl::Status taken = this->script().Take(request); !taken.ok()) return this->End(taken);
    written_ = 0;
    WriteNext(request);
  }

 private:
  virtual void OnAnswered() = 0;

  void WriteNext(const Request& request) {
    if (written_ == request.reply_sizes_size()) return OnAnswered();
    const Reply reply = this->script().NextReply(request.reply_sizes(written_++));
    replies_.Write(reply, [this, &request, self = this->shared_from_this()](bool written) {
      if (!written) return this->End(absl::AbortedError("nobody takes the replies"));
      WriteNext(request);
    });
  }

  StreamWriter<Reply> replies_ = this->call().replies();
  int written_ = 0;
};

class KeptDownload final : public KeptAnswers<ServerStreamingCall<Request, Reply>> {
 public:
  using KeptAnswers::KeptAnswers;

  void Start() { Answer(call().request()); }

 private:
  void OnAnswered() override { EndOrSleep(StatusOf(call().request())); }
};

class KeptConverse final : public KeptAnswers<BidiStreamingCall<Request, Reply>> {
 public:
  using KeptAnswers::KeptAnswers;

  void Next() {
    requests_.Read(request_, [this, self = shared_from_this()](bool read) {
      if (!read) return EndOrSleep(absl::OkStatus());
      Answer(request_);
    });
  }

 private:
  void OnAnswered() override {
    if (request_.end()) return End(StatusOf(request_));
    Next();
  }

  StreamReader<Request> requests_ = call().requests();
  Request request_;
};

}  // namespace

void CallbackHandlers::StartUnary(UnaryCall<Request, Reply> call) {
  std::make_shared<KeptUnary>(log_, std::move(call))->Start();
}

void CallbackHandlers::StartUpload(ClientStreamingCall<Request, Reply> call) {
  std::make_shared<KeptUpload>(log_, std::move(call))->Next();
}

void CallbackHandlers::StartDownload(ServerStreamingCall<Request, Reply> call) {
  std::make_shared<KeptDownload>(log_, std::move(call))->Start();
}

void CallbackHandlers::StartConverse(BidiStreamingCall<Request, Reply> call) {
  std::make_shared<KeptConverse>(log_, std::move(call))->Next();
}

absl::Status InlineHandlers::Unary(ServerContext& context, const Request& request, Reply& reply) {
  Script script(log(), context);
  if (absl::Status taken = script.Take(request); !taken.ok()) return script.End(taken);
  reply = script.NextReply(request.reply_sizes_size() > 0 ? request.reply_sizes(0) : 0);
  return script.End(StatusOf(request));
}

void InlineHandlers::StartUnary(UnaryCall<Request, Reply> call) {
  if (call.request().sleep()) return CallbackHandlers::StartUnary(std::move(call));
  absl::Status status = Unary(call.context(), call.request(), call.reply());
  std::move(call).Finish(std::move(status));
}

}  // namespace ferry::test::conformance
