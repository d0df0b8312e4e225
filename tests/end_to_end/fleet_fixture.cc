#include "tests/end_to_end/fleet_fixture.h"

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"

namespace ferry::test::e2e {

absl::Status Host::EchoInline(ServerContext& context, const Message& request, Message& reply) {
  calls_.fetch_add(1);
  reply.set_id(request.id());
  if (busy.load() > 0 && busy.fetch_sub(1) > 0) {
    context.set_retry_after(busy_for);
    return absl::UnavailableError("too much to do");
  }
  return failing.load() ? absl::UnavailableError("out of order") : absl::OkStatus();
}

void Host::StartHold(HeldCall call) {
  calls_.fetch_add(1);
  absl::MutexLock lock(&mutex_);
  held_.push_back(std::move(call));
}

void Host::FinishHeld() {
  absl::MutexLock lock(&mutex_);
  for (HeldCall& call : held_) std::move(call).Finish(absl::OkStatus());
  held_.clear();
}

void Host::Listen(const std::string& address) {
  server_ = std::make_unique<Server>(ServerOptions{.inline_budget = absl::Hours(1), .reuse_port = true});
  server_->Register(*this);
  if (health_ != nullptr) health_->AddTo(*server_);
  const absl::Status listening = server_->Listen(address);
  ASSERT_TRUE(listening.ok()) << listening;
  address_ = server_->addresses().front();
}

void Host::Stop() {
  server_ = nullptr;
  absl::MutexLock lock(&mutex_);
  held_.clear();
}

void Host::StartAgainWithHealth(const HealthService::Options& options) {
  Stop();
  health_ = std::make_unique<HealthService>(options);
  StartAgain();
}

void FleetFixture::Connect(const ChannelOptions& options) {
  absl::StatusOr<std::unique_ptr<Channel>> created =
      Channel::CreateResolved("greeters", names_.Factory(), options);
  ASSERT_TRUE(created.ok()) << created.status();
  channel_ = *std::move(created);
  stub_ = std::make_unique<ConformanceStub>(*channel_);
}

void FleetFixture::Tell(const std::vector<Host*>& hosts) {
  std::vector<std::string> addresses;
  addresses.reserve(hosts.size());
  for (const Host* host : hosts) addresses.push_back(host->address());
  names_.Tell(addresses);
}

void FleetFixture::TellAndConnect(const std::vector<Host*>& hosts) {
  Tell(hosts);
  ASSERT_TRUE(Eventually([&] { return channel_->server_counts().usable == hosts.size(); }));
}

absl::Status FleetFixture::Call(const CallOptions& options) {
  Message request;
  request.set_id(++id_);
  const absl::StatusOr<Message> reply = stub_->EchoInline(request, options);
  if (!reply.ok()) {
    failure_ = FailureOf(reply.status()).value_or(CallFailure());
    return absl::Status(reply.status().code(), reply.status().message());
  }
  EXPECT_EQ(reply->id(), id_);
  return absl::OkStatus();
}

::testing::AssertionResult FleetFixture::ReachesAll(const std::vector<Host*>& hosts) {
  std::vector<int> before;
  before.reserve(hosts.size());
  for (const Host* host : hosts) before.push_back(host->calls());
  for (int i = 0; i < 1'000'000; ++i) {
    if (const absl::Status status = Call(); !status.ok()) return testing::AssertionFailure() << status;
    size_t reached = 0;
    for (size_t j = 0; j < hosts.size(); ++j) reached += hosts[j]->calls() > before[j];
    if (reached == hosts.size()) return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "not all hosts were reached";
}

}  // namespace ferry::test::e2e
