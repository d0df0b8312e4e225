#include "ferry/benchmarks/echo_service.h"

#include <string>
#include <utility>

namespace ferry::bench {

EchoHandlers::EchoHandlers() : thread_([this] { AnswerLater(); }) {}

EchoHandlers::~EchoHandlers() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

absl::Status EchoHandlers::Echo(ServerContext&, const EchoRequest& request, EchoReply& reply) {
  reply.set_payload(request.payload());
  return absl::OkStatus();
}

absl::Status EchoHandlers::EchoExecutor(ServerContext&, const EchoRequest& request, EchoReply& reply) {
  reply.set_payload(request.payload());
  return absl::OkStatus();
}

absl::Status EchoHandlers::Absorb(ServerContext&, const EchoRequest&, EchoReply&) { return absl::OkStatus(); }

absl::Status EchoHandlers::Produce(ServerContext&, const ProduceRequest& request, EchoReply& reply) {
  reply.set_payload(std::string(request.size(), 'x'));
  return absl::OkStatus();
}

void EchoHandlers::StartEchoLater(UnaryCall<EchoRequest, EchoReply> call) {
  absl::MutexLock lock(&mutex_);
  waiting_.push_back(std::move(call));
}

void EchoHandlers::AnswerLater() {
  Calls calls;
  for (bool stopping = false; !stopping;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &EchoHandlers::HasWork));
      calls.swap(waiting_);
      stopping = stopping_;
    }
    for (UnaryCall<EchoRequest, EchoReply>& call : calls) {
      call.reply().set_payload(call.request().payload());
      std::move(call).Finish(absl::OkStatus());
    }
    calls.clear();
  }
}

}  // namespace ferry::bench
