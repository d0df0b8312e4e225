#include "tests/end_to_end/stream_service.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

// The callback forms: each keeps itself until it has finished its call.
class Collector : public std::enable_shared_from_this<Collector> {
 public:
  explicit Collector(ClientStreamingCall<Part, Part> call)
      : call_(std::move(call)), requests_(call_.requests()) {}

  void Next() {
    requests_.Read(part_, [self = shared_from_this()](bool read) { self->OnRead(read); });
  }

 private:
  void OnRead(bool read) {
    if (!read) return std::move(call_).Finish(absl::OkStatus());
    if (part_.code() != 0) return std::move(call_).Finish(StatusOf(part_));
    call_.reply().set_id(call_.reply().id() + 1);
    call_.reply().set_payload(part_.payload());
    Next();
  }

  ClientStreamingCall<Part, Part> call_;
  StreamReader<Part> requests_;
  Part part_;
};

class Sender : public std::enable_shared_from_this<Sender> {
 public:
  explicit Sender(ServerStreamingCall<Part, Part> call) : call_(std::move(call)), replies_(call_.replies()) {}

  void Next() {
    const Part& request = call_.request();
    if (next_ == request.sizes_size()) return std::move(call_).Finish(StatusOf(request));
    const Part part = PartOf(static_cast<uint64_t>(next_), request.sizes(next_));
    ++next_;
    replies_.Write(part, [self = shared_from_this()](bool written) {
      if (!written) return std::move(self->call_).Finish(absl::AbortedError("nobody takes the parts"));
      self->Next();
    });
  }

 private:
  ServerStreamingCall<Part, Part> call_;
  StreamWriter<Part> replies_;
  int next_ = 0;
};

class Ponger : public std::enable_shared_from_this<Ponger> {
 public:
  explicit Ponger(BidiStreamingCall<Part, Part> call)
      : call_(std::move(call)), requests_(call_.requests()), replies_(call_.replies()) {}

  void Next() {
    requests_.Read(part_, [self = shared_from_this()](bool read) { self->OnRead(read); });
  }

 private:
  void OnRead(bool read) {
    if (!read) return std::move(call_).Finish(absl::OkStatus());
    if (part_.code() != 0) return std::move(call_).Finish(StatusOf(part_));
    replies_.Write(PartOf(part_.id(), part_.sizes_size() > 0 ? part_.sizes(0) : 0),
                   [self = shared_from_this()](bool written) {
                     if (!written) return std::move(self->call_).Finish(absl::AbortedError("not taken"));
                     self->Next();
                   });
  }

  BidiStreamingCall<Part, Part> call_;
  StreamReader<Part> requests_;
  StreamWriter<Part> replies_;
  Part part_;
};

absl::Status CollectAll(StreamReader<Part>& requests, Part& reply) {
  Part part;
  while (requests.Read(part)) {
    if (part.code() != 0) return StatusOf(part);
    reply.set_id(reply.id() + 1);
    reply.set_payload(part.payload());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status StatusOf(const Part& part) {
  return absl::Status(static_cast<absl::StatusCode>(part.code()), part.text());
}

Part PartOf(uint64_t id, size_t size) {
  Part part;
  part.set_id(id);
  std::string& payload = *part.mutable_payload();
  payload.resize(size);
  for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>((id + i) * 37 >> 3);
  return part;
}

absl::Status TestStreams::Ended(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  ++ended_;
  return status;
}

absl::Status TestStreams::Collect(ServerContext&, StreamReader<Part>& requests, Part& reply) {
  return Ended(CollectAll(requests, reply));
}

void TestStreams::StartCollectLater(ClientStreamingCall<Part, Part> call) {
  std::make_shared<Collector>(std::move(call))->Next();
}

absl::Status TestStreams::Send(ServerContext&, const Part& request, StreamWriter<Part>& replies) {
  for (int i = 0; i < request.sizes_size(); ++i) {
    if (!replies.Write(PartOf(static_cast<uint64_t>(i), request.sizes(i)))) {
      return Ended(absl::AbortedError("nobody takes the parts"));
    }
  }
  return Ended(StatusOf(request));
}

void TestStreams::StartSendLater(ServerStreamingCall<Part, Part> call) {
  std::make_shared<Sender>(std::move(call))->Next();
}

absl::Status TestStreams::PingPong(ServerContext&, StreamReader<Part>& requests,
                                   StreamWriter<Part>& replies) {
  Part part;
  while (requests.Read(part)) {
    if (part.code() != 0) return Ended(StatusOf(part));
    if (!replies.Write(PartOf(part.id(), part.sizes_size() > 0 ? part.sizes(0) : 0))) {
      return Ended(absl::AbortedError("not taken"));
    }
  }
  return Ended(absl::OkStatus());
}

void TestStreams::StartPingPongLater(BidiStreamingCall<Part, Part> call) {
  std::make_shared<Ponger>(std::move(call))->Next();
}

absl::Status TestStreams::CollectWhenTold(ServerContext& context, StreamReader<Part>& requests, Part& reply) {
  {
    absl::MutexLock lock(&mutex_);
    ++begun_;
    while (!let_go_ && !context.cancelled()) {
      // Nothing tells this mutex of the cancellation.
      mutex_.AwaitWithTimeout(absl::Condition(&let_go_), absl::Milliseconds(1));
    }
  }
  return Ended(CollectAll(requests, reply));
}

absl::Status TestStreams::SendForever(ServerContext& context, const Part& request,
                                      StreamWriter<Part>& replies) {
  {
    absl::MutexLock lock(&mutex_);
    ++begun_;
  }
  const Part part = PartOf(0, request.sizes(0));
  while (replies.Write(part)) {
    absl::MutexLock lock(&mutex_);
    ++sent_;
  }
  return Ended(context.cancelled() ? absl::OkStatus() : absl::InternalError("not cancelled"));
}

absl::Status TestStreams::Metadata(ServerContext& context, const Part& request, StreamWriter<Part>& replies) {
  for (const auto& [key, value] : context.request_metadata().entries()) {
    context.initial_metadata().Add(absl::StrCat("initial-", key), value);
    context.trailing_metadata().Add(absl::StrCat("trailing-", key), value);
  }
  for (int i = 0; i < request.sizes_size(); ++i) replies.Write(PartOf(0, request.sizes(i)));
  return Ended(StatusOf(request));
}

void TestStreams::LetGo() {
  absl::MutexLock lock(&mutex_);
  let_go_ = true;
}

bool TestStreams::WaitForEnded(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ended_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongTime);
}

bool TestStreams::WaitForBegun(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return begun_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongTime);
}

uint64_t TestStreams::sent() {
  absl::MutexLock lock(&mutex_);
  return sent_;
}

}  // namespace ferry::test::e2e
