#include "tests/conformance/fixture.h"

#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/check.h"
#include "ferry/transport/connector.h"
#include "ferry/transport/socket_options.h"
#include "tests/conformance/connectors.h"
#include "tests/conformance/payload.h"
#include "tests/conformance/raw_calls.h"
#include "tests/end_to_end/waiting.h"

namespace ferry::test::conformance {
namespace {

ServerOptions OptionsFor(const Mode& mode) {
  // Handlers are slow under a sanitizer and on a busy machine: they stay inline all the same.
  ServerOptions options{.threads = 2, .executor_threads = 4, .inline_budget = absl::Hours(1)};
  for (const char* method : {"Unary", "Upload", "Download", "Converse"}) {
    options.run_inline.emplace_back(absl::StrCat("ferry.test.conformance.Conformance/", method),
                                    mode.execution == Execution::kInline);
  }
  return options;
}

void CheckOk(const absl::Status& status) { FERRY_CHECK(status.ok(), status.ToString().c_str()); }

std::unique_ptr<transport::Connector> ConnectorTo(const std::string& address) {
  const absl::StatusOr<transport::Address> parsed = transport::Address::Parse(address);
  CheckOk(parsed.status());
  auto resolved = transport::Resolve(*parsed);
  CheckOk(resolved.status());
  return std::make_unique<transport::SocketConnector>(*std::move(resolved), transport::SocketOptions());
}

}  // namespace

Fixture::Fixture(const Mode& mode, Scale scale)
    : mode_(mode),
      scale_(scale),
      service_(NewConformanceService(mode.execution, mode.form, log_)),
      server_(std::make_unique<Server>(OptionsFor(mode))) {
  server_->Register(*service_);
  if (mode.transport != Transport::kOneByte) {
    address_ = mode.transport == Transport::kTcp ? "127.0.0.1:0"
                                                 : absl::StrCat("unix:", directory_.path(), "/socket");
    CheckOk(server_->Listen(address_));
    address_ = server_->addresses().front();
  }
  channel_ = NewChannel();
  caller_ = NewCaller(mode.form, *channel_);
}

Fixture::~Fixture() {
  caller_.reset();
  channel_.reset();
  server_.reset();
}

std::unique_ptr<Channel> Fixture::NewChannel() {
  std::unique_ptr<transport::Connector> connector;
  if (address_.empty()) {
    connector = std::make_unique<PairConnector>(
        mode_.transport, [this](std::unique_ptr<transport::ByteStream> far_end) {
          return server_->Serve(AsRead(mode_.transport, std::move(far_end)));
        });
  } else {
    connector = ConnectorTo(address_);
  }
  absl::StatusOr<std::unique_ptr<Channel>> channel =
      Channel::CreateOver(std::make_unique<CountingAttempts>(std::move(connector), connections_));
  CheckOk(channel.status());
  ++channels_;
  return *std::move(channel);
}

std::unique_ptr<RawPeer> Fixture::ConnectRaw(Findings& findings) {
  StreamPair pair = NewPair(mode_.transport);
  CheckOk(server_->Serve(std::move(pair.first)));
  auto peer = std::make_unique<RawPeer>(std::move(pair.second), std::this_thread::yield);
  Greet(*peer, findings);
  return peer;
}

void Fixture::ExpectHealthy(Findings& findings) {
  const absl::StatusOr<Reply> reply = caller_->Unary(RequestOf(10, {20}));
  findings.ExpectOk(reply.status(), "a call after all others");
  if (reply.ok()) findings.Expect(reply->payload() == PatternOf(20), "a call after all others is answered");
  findings.ExpectEqual(connections_.load(), channels_, "the number of connections");
  findings.Expect(log_.WaitUntilIdle(), "every handler ends");
  const HandlerLog::Counts counts = log_.counts();
  const size_t run_inline =
      mode_.execution == Execution::kInline ? counts.begun - counts.in_fragments : size_t{0};
  findings.ExpectEqual(counts.begun_inline, run_inline, "the number of handlers that began on an event loop");
}

}  // namespace ferry::test::conformance
