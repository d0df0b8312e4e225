#include "tests/end_to_end/served.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/in_process.h"
#include "ferry/transport/check.h"

namespace ferry::test::e2e {
namespace {

// Handlers are slow under a sanitizer and on a busy machine: they stay inline all the same.
ServerOptions WithPatience(ServerOptions options) {
  options.inline_budget = absl::Hours(1);
  return options;
}

}  // namespace

std::vector<std::string> AvailableTransports() {
  std::vector<std::string> transports = {"127.0.0.1:0", "unix", "unix-abstract", "in-process"};
  if (Server({}).Listen("[::1]:0").ok()) transports.push_back("[::1]:0");
  return transports;
}

std::string NewAddress(std::string_view transport, const TemporaryDirectory& directory) {
  if (transport == "in-process") return "";
  if (transport == "unix") return absl::StrCat("unix:", directory.path(), "/socket");
  if (transport == "unix-abstract") return absl::StrCat("unix-abstract:", directory.path());
  return std::string(transport);
}

std::unique_ptr<Channel> ChannelTo(std::string_view address, const ChannelOptions& options) {
  absl::StatusOr<std::unique_ptr<Channel>> channel = Channel::Create(address, options);
  FERRY_CHECK(channel.ok(), channel.status().ToString().c_str());
  return *std::move(channel);
}

Served::Served(std::string_view transport, const ServerOptions& server_options,
               const ChannelOptions& channel_options)
    : server(std::make_unique<Server>(WithPatience(server_options))),
      address_(NewAddress(transport, directory_)) {
  server->Register(service);
  server->Register(other_service);
  if (!address_.empty()) {
    const absl::Status listening = server->Listen(address_);
    FERRY_CHECK(listening.ok(), listening.ToString().c_str());
    address_ = server->addresses().front();
  }
  channel = NewChannel(channel_options);
  stub = std::make_unique<ConformanceStub>(*channel);
  other = std::make_unique<OtherStub>(*channel);
}

Served::~Served() {
  service.Unblock();
  channel.reset();
  server.reset();
}

std::unique_ptr<Channel> Served::NewChannel(const ChannelOptions& options) {
  if (!address_.empty()) return ChannelTo(address_, options);
  absl::StatusOr<std::unique_ptr<Channel>> channel = CreateInProcessChannel(*server, options);
  FERRY_CHECK(channel.ok(), channel.status().ToString().c_str());
  return *std::move(channel);
}

Message MessageOf(uint64_t id, size_t size) {
  Message message;
  message.set_id(id);
  std::string& payload = *message.mutable_payload();
  payload.resize(size);
  for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>((id + i) * 31 >> 3);
  return message;
}

}  // namespace ferry::test::e2e
