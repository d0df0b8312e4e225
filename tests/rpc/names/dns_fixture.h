// What tests of looking names up in DNS have in common.
#ifndef FERRY_TESTS_RPC_NAMES_DNS_FIXTURE_H_
#define FERRY_TESTS_RPC_NAMES_DNS_FIXTURE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "ferry/rpc/names/dns_resolver.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/event_loop.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/told.h"
#include "tests/testing/run_loop.h"

namespace ferry::test {

// A resolver on a loop whose clock stands still. c-ares' own timeouts go by the real clock, and are not
// waited for: the lookup's is the loop's.
class DnsTest : public testing::Test {
 protected:
  ~DnsTest() override {
    RunIn(*loop_, [this] { resolver_.reset(); });
  }

  // Asks the DNS server at `address` only.
  void Start(const DnsName& name, const std::string& address, DnsResolverOptions options = Options()) {
    options.servers = {address};
    ASSERT_TRUE(options.Validate().ok()) << options.Validate();
    const int before = told_.count();
    RunIn(*loop_, [&] {
      resolver_ = NewDnsResolver(name, options, *loop_);
      resolver_->Start(told_);
      EXPECT_EQ(told_.count(), before) << "told inside Start";
    });
  }

  static DnsResolverOptions Options() { return {.hosts_file = "", .search = false}; }

  void ResolveAgain() {
    RunIn(*loop_, [this] { resolver_->ResolveAgain(); });
  }
  void Advance(absl::Duration time) {
    clock_.Advance(time);
    loop_->RunUntilIdle();
  }
  // Waits until the resolver has told `count` things in all.
  void AwaitTold(int count) {
    RunUntil(*loop_, [&] { return told_.count() >= count; });
    EXPECT_EQ(told_.count(), count);
  }

  transport::ManualClock clock_;
  const std::unique_ptr<transport::EventLoop> loop_ = NewLoop({.clock = &clock_});
  Told told_;
  std::unique_ptr<Resolver> resolver_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_NAMES_DNS_FIXTURE_H_
