#include "tests/simulation/service_names.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ferry/transport/socket_address.h"

namespace ferry::simulation {

class ServiceNames::FromNames final : public Resolver {
 public:
  explicit FromNames(ServiceNames& names) : names_(names) {}
  ~FromNames() override { std::erase(names_.resolvers_, this); }

  void Start(Watcher& watcher) override {
    watcher_ = &watcher;
    names_.resolvers_.push_back(this);
    names_.TellLater(*this);
  }
  void ResolveAgain() override {}

  Watcher& watcher() { return *watcher_; }

 private:
  ServiceNames& names_;
  Watcher* watcher_ = nullptr;
};

Fleet::ResolverFactory ServiceNames::NewResolver() {
  return [this](transport::EventLoop&) { return std::make_unique<FromNames>(*this); };
}

// A server's name is its place.
Fleet::ConnectorFactory ServiceNames::NewConnector(Network& network) {
  return [&network](const ResolvedServer& server) {
    size_t place = 0;
    static_cast<void>(absl::SimpleAtoi(server.name, &place));
    return network.NewConnector(place);
  };
}

void ServiceNames::Tell(const std::vector<size_t>& places) {
  std::vector<ResolvedServer> servers;
  servers.reserve(places.size());
  for (const size_t place : places) {
    const std::string name = absl::StrCat(place);
    servers.push_back({.name = name, .addresses = {transport::SocketAddress::UnixAbstract(name)}});
  }
  found_ = std::move(servers);
  TellAll();
}

void ServiceNames::Fail(const absl::Status& why) {
  found_ = why;
  TellAll();
}

void ServiceNames::TellAll() {
  for (FromNames* const resolver : resolvers_) TellLater(*resolver);
}

void ServiceNames::TellLater(FromNames& resolver) {
  client_.Post([this, resolver = &resolver, found = found_] {
    // It may be gone, and its watcher with it.
    if (std::find(resolvers_.begin(), resolvers_.end(), resolver) == resolvers_.end()) return;
    resolver->watcher().OnServers(found);
  });
}

}  // namespace ferry::simulation
