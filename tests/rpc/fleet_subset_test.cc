// Which part of a big fleet a client uses.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/fleet.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/testing/manual_resolver.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/scripted_connector.h"

namespace ferry {
namespace {

constexpr size_t kPart = 3;

// The names of the servers that a client of 50 uses.
std::set<std::string> UsedBy(std::optional<uint64_t> client_id, uint64_t seed) {
  transport::ManualClock clock;
  const std::unique_ptr<transport::EventLoop> loop = test::NewLoop({.clock = &clock});
  test::ManualNames names;
  test::ScriptedConnector::Script script{.hang = true};
  std::set<std::string> used;
  absl::StatusOr<std::shared_ptr<Fleet>> fleet =
      Fleet::Create({.name = "greeters", .max_servers = kPart, .client_id = client_id, .seed = seed}, *loop,
                    names.Factory(), [&](const ResolvedServer& server) {
                      used.insert(server.name);
                      return std::make_unique<test::ScriptedConnector>(script);
                    });
  if (!fleet.ok()) {
    ADD_FAILURE() << fleet.status();
    return used;
  }
  loop->RunUntilIdle();
  std::vector<std::string> addresses;
  for (int i = 1; i <= 50; ++i) addresses.push_back(absl::StrCat("127.0.0.1:", i));
  names.Tell(addresses);
  loop->RunUntilIdle();
  test::RunIn(*loop, [&] { (*fleet)->Close(absl::CancelledError("the test ends")); });
  EXPECT_EQ(used.size(), kPart);
  return used;
}

TEST(FleetSubsetTest, ClientsWithoutAnIdDoNotAllUseTheSameServers) {
  std::set<std::string> used;
  for (uint64_t seed = 1; seed <= 20; ++seed) used.merge(UsedBy(std::nullopt, seed));
  // Of 50, with 60 drawn.
  EXPECT_GE(used.size(), 20u);
}

TEST(FleetSubsetTest, AClientsIdSaysWhichServersItUses) {
  EXPECT_EQ(UsedBy(7, 1), UsedBy(7, 2));
  EXPECT_NE(UsedBy(7, 1), UsedBy(8, 1));
}

}  // namespace
}  // namespace ferry
