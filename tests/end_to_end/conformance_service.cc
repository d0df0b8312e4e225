#include "tests/end_to_end/conformance_service.h"

#include <string>
#include <thread>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/check.h"
#include "ferry/transport/event_loop.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::e2e {
namespace {

void FillEcho(const Message& request, Message& reply) {
  reply.set_id(request.id());
  if (request.reply_size() > 0) {
    reply.mutable_payload()->assign(request.reply_size(), 'r');
  } else {
    reply.set_payload(request.payload());
  }
  reply.set_on_loop(transport::EventLoop::InAnyLoop());
}

absl::Status RequestedStatus(const Message& request) {
  absl::Status status(static_cast<absl::StatusCode>(request.code()), request.text());
  for (const auto& [type_url, value] : request.details()) status.SetPayload(type_url, absl::Cord(value));
  return status;
}

void FillDescription(const ServerContext& context, Message& reply) {
  reply.set_peer(context.peer());
  const absl::Duration left = context.time_left();
  reply.set_time_left(left == absl::InfiniteDuration() ? -1 : absl::ToInt64Nanoseconds(left));
  reply.set_on_loop(transport::EventLoop::InAnyLoop());
}

}  // namespace

TestConformance::TestConformance() : later_(*transport::LoopGroup::Create({.threads = 2, .name = "later"})) {}

void TestConformance::FinishLater(HeldCall call, absl::Status status) {
  later_->Next().Post([call = std::move(call), status = std::move(status)]() mutable {
    std::move(call).Finish(std::move(status));
  });
}

absl::Status TestConformance::EchoInline(ServerContext&, const Message& request, Message& reply) {
  FillEcho(request, reply);
  return absl::OkStatus();
}

absl::Status TestConformance::EchoExecutor(ServerContext&, const Message& request, Message& reply) {
  FillEcho(request, reply);
  return absl::OkStatus();
}

void TestConformance::StartEchoLater(HeldCall call) {
  FillEcho(call.request(), call.reply());
  FinishLater(std::move(call), absl::OkStatus());
}

absl::Status TestConformance::FailInline(ServerContext&, const Message& request, Message&) {
  return RequestedStatus(request);
}

absl::Status TestConformance::FailExecutor(ServerContext&, const Message& request, Message&) {
  return RequestedStatus(request);
}

void TestConformance::StartFailLater(HeldCall call) {
  absl::Status status = RequestedStatus(call.request());
  FinishLater(std::move(call), std::move(status));
}

absl::Status TestConformance::EchoMetadata(ServerContext& context, const Message& request, Message& reply) {
  for (const auto& [key, value] : context.request_metadata().entries()) {
    context.initial_metadata().Add(absl::StrCat("initial-", key), value);
    context.trailing_metadata().Add(absl::StrCat("trailing-", key), value);
  }
  FillEcho(request, reply);
  return RequestedStatus(request);
}

absl::Status TestConformance::Describe(ServerContext& context, const Message&, Message& reply) {
  FillDescription(context, reply);
  return absl::OkStatus();
}

absl::Status TestConformance::DescribeWithTimeout(ServerContext& context, const Message&, Message& reply) {
  FillDescription(context, reply);
  return absl::OkStatus();
}

void TestConformance::Keep(HeldCall call) {
  absl::MutexLock lock(&mutex_);
  held_.push_back(std::move(call));
}

void TestConformance::StartHold(HeldCall call) { Keep(std::move(call)); }

void TestConformance::StartHoldBriefly(HeldCall call) { Keep(std::move(call)); }

absl::Status TestConformance::Block(ServerContext&, const Message& request, Message& reply) {
  {
    absl::MutexLock lock(&mutex_);
    ++ever_blocked_;
    mutex_.Await(absl::Condition(&unblocked_));
  }
  FillEcho(request, reply);
  return absl::OkStatus();
}

absl::Status TestConformance::WaitUntilCancelled(ServerContext& context, const Message&, Message&) {
  {
    absl::MutexLock lock(&mutex_);
    ++ever_waited_;
  }
  while (!context.cancelled()) std::this_thread::yield();
  absl::MutexLock lock(&mutex_);
  ++ever_cancelled_;
  return absl::OkStatus();
}

size_t TestConformance::held() {
  absl::MutexLock lock(&mutex_);
  return held_.size();
}

HeldCall TestConformance::TakeHeld() {
  FERRY_CHECK(WaitForHeld(1), "no call came to be held");
  absl::MutexLock lock(&mutex_);
  HeldCall call = std::move(held_.front());
  held_.pop_front();
  return call;
}

bool TestConformance::WaitForHeld(size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, count] {
    mutex_.AssertHeld();
    return held_.size() >= count;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongTime);
}

size_t TestConformance::ever_blocked() {
  absl::MutexLock lock(&mutex_);
  return ever_blocked_;
}

bool TestConformance::WaitUntilReached(const size_t& counter, size_t count) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [&counter, count] { return counter >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kLongTime);
}

bool TestConformance::WaitForBlocked(size_t count) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return WaitUntilReached(ever_blocked_, count);
}

bool TestConformance::WaitForWaiting(size_t count) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return WaitUntilReached(ever_waited_, count);
}

bool TestConformance::WaitForCancelled(size_t count) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return WaitUntilReached(ever_cancelled_, count);
}

void TestConformance::Unblock() {
  absl::MutexLock lock(&mutex_);
  unblocked_ = true;
}

absl::Status TestOther::Echo(ServerContext&, const Message& request, Message& reply) {
  FillEcho(request, reply);
  return absl::OkStatus();
}

}  // namespace ferry::test::e2e
