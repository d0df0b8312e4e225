#include "ferry/rpc/balancing/subset.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/random.h"

namespace ferry {
namespace {

std::vector<std::string> Names(size_t count) {
  std::vector<std::string> names;
  names.reserve(count);
  for (size_t i = 0; i < count; ++i) names.push_back(absl::StrCat("10.0.", i / 256, ".", i % 256, ":7000"));
  return names;
}

std::set<std::string> Chosen(const std::vector<std::string>& names, uint64_t client, size_t size) {
  const std::vector<absl::string_view> views(names.begin(), names.end());
  std::set<std::string> chosen;
  for (const size_t i : Subset(views, client, size)) chosen.insert(names[i]);
  return chosen;
}

// How many of `a` are not in `b`.
size_t Difference(const std::set<std::string>& a, const std::set<std::string>& b) {
  return static_cast<size_t>(
      std::count_if(a.begin(), a.end(), [&](const auto& x) { return !b.contains(x); }));
}

TEST(SubsetTest, IsAllOfFew) {
  EXPECT_EQ(Subset({}, 1, 20), std::vector<size_t>());
  EXPECT_EQ(Subset({"a"}, 1, 20), std::vector<size_t>({0}));
  EXPECT_EQ(Subset({"a", "b", "c"}, 1, 3), std::vector<size_t>({0, 1, 2}));
  EXPECT_EQ(Subset({"a", "b", "c"}, 1, 0), std::vector<size_t>());
}

TEST(SubsetTest, HasTheSizeAndAscends) {
  const auto names = Names(300);
  const std::vector<absl::string_view> views(names.begin(), names.end());
  for (uint64_t client = 0; client < 50; ++client) {
    for (const size_t size : {1, 20, 299}) {
      const auto subset = Subset(views, client, size);
      EXPECT_EQ(subset.size(), size);
      EXPECT_TRUE(std::is_sorted(subset.begin(), subset.end()));
      EXPECT_EQ(std::set<size_t>(subset.begin(), subset.end()).size(), size);
    }
  }
}

TEST(SubsetTest, DoesNotDependOnTheOrder) {
  auto names = Names(200);
  const auto before = Chosen(names, 7, 20);
  std::reverse(names.begin(), names.end());
  EXPECT_EQ(Chosen(names, 7, 20), before);
}

TEST(SubsetTest, AServerThatLeavesIsReplacedByOneAndOnlyWhereItWasUsed) {
  test::Random random;
  const auto names = Names(200);
  for (int round = 0; round < 10; ++round) {
    auto fewer = names;
    const auto gone = static_cast<std::ptrdiff_t>(random.Number(0, names.size() - 1));
    fewer.erase(fewer.begin() + gone);
    for (uint64_t client = 0; client < 100; ++client) {
      const auto all = Chosen(names, client, 20);
      const auto without = Chosen(fewer, client, 20);
      const bool used = all.contains(names[static_cast<size_t>(gone)]);
      EXPECT_EQ(Difference(all, without), used ? 1 : 0);
      EXPECT_EQ(Difference(without, all), used ? 1 : 0);
    }
  }
}

// Everything is constant here, so the bounds are what comes out, with some room for another hash: numbered
// clients spread far better than the least and most of random ones, 20 - 3 * sqrt(20) and 20 + 4 * sqrt(20).
TEST(SubsetTest, NumberedClientsSpreadEvenly) {
  const auto names = Names(500);
  const std::vector<absl::string_view> views(names.begin(), names.end());
  std::vector<int> users(500);
  for (uint64_t client = 0; client < 500; ++client) {
    for (const size_t server : Subset(views, client, 20)) ++users[server];
  }
  EXPECT_GE(*std::min_element(users.begin(), users.end()), 11);
  EXPECT_LE(*std::max_element(users.begin(), users.end()), 30);
}

TEST(SubsetTest, RandomClientsSpreadAsRandomChoicesDo) {
  test::Random random;
  const auto names = Names(500);
  const std::vector<absl::string_view> views(names.begin(), names.end());
  std::vector<int> users(500);
  for (int i = 0; i < 2500; ++i) {
    for (const size_t server : Subset(views, random.Number(0, UINT64_MAX), 20)) ++users[server];
  }
  // A mean of 100; standard deviations of 10 by the clients and 6 by the points: 7 of both together.
  EXPECT_GE(*std::min_element(users.begin(), users.end()), 100 - 82);
  EXPECT_LE(*std::max_element(users.begin(), users.end()), 100 + 82);
}

}  // namespace
}  // namespace ferry
