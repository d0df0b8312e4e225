#include "ferry/rpc/names/dns_resolver.h"

#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/dns_message.h"
#include "ferry/rpc/names/resolver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/dns_fixture.h"
#include "tests/rpc/names/fake_dns.h"
#include "tests/testing/temporary_directory.h"

namespace ferry {
namespace {

using test::DnsQuestion;
using test::DnsRecord;
using test::DnsReply;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kV4("\x0a\0\0\x01", 4);                         // 10.0.0.1
const std::string kV6("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16);  // ::1

class DnsResolverTest : public test::DnsTest {
 protected:
  // Answers with this until it is something else.
  std::string Answer(const DnsQuestion& question) { return reply_ ? reply_(question) : ""; }

  // Waits until `count` questions have been asked in all, and answers them.
  void AwaitAsked(int count) {
    test::RunUntil(*loop_, [&] {
      dns_.Serve();
      return dns_.asked() >= count;
    });
    EXPECT_EQ(dns_.asked(), count);
  }
  void AwaitTold(int count) {
    test::RunUntil(*loop_, [&] {
      dns_.Serve();
      return told_.count() >= count;
    });
    EXPECT_EQ(told_.count(), count);
  }
  // Nothing more is asked just now: what has been sent on loopback has arrived.
  void ExpectAsked(int count) {
    loop_->RunUntilIdle();
    dns_.Serve();
    EXPECT_EQ(dns_.asked(), count);
  }
  void StartHost() { Start({.name = "a.test", .port = 80}, dns_.address()); }
  void StartService() { Start({.name = "_ferry._tcp.a.test"}, dns_.address()); }

  // A has 10.0.0.1, or another address, and AAAA nothing.
  static std::function<std::string(const DnsQuestion&)> Address(uint32_t ttl,
                                                                const std::string& address = kV4) {
    return [=](const DnsQuestion& question) {
      if (!question.is(DnsType::kA)) return DnsReply{}.For(question);
      return DnsReply{.answers = 1, .records = DnsRecord(1, ttl, address)}.For(question);
    };
  }

  std::function<std::string(const DnsQuestion&)> reply_;
  test::FakeDns dns_{[this](const DnsQuestion& question) { return Answer(question); }};
};

TEST_F(DnsResolverTest, AsksAgainWhenTheTtlEndsAndNotBefore) {
  reply_ = Address(60);
  StartHost();
  AwaitTold(1);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:80"));
  Advance(absl::Seconds(60) - absl::Nanoseconds(1));
  ExpectAsked(2);
  Advance(absl::Nanoseconds(1));
  AwaitAsked(4);
  EXPECT_EQ(told_.count(), 1);  // nothing has changed
}

TEST_F(DnsResolverTest, ATtlIsBoundedOnBothSides) {
  struct Case {
    uint32_t ttl;
    absl::Duration wait;
  };
  int asked = 0;
  for (const Case& c :
       {Case{0, absl::Seconds(1)}, Case{0x80000000u, absl::Seconds(1)}, Case{1'000'000, absl::Minutes(5)}}) {
    SCOPED_TRACE(c.ttl);
    test::RunIn(*loop_, [this] { resolver_.reset(); });
    reply_ = Address(c.ttl);
    const int told = told_.count();
    StartHost();
    AwaitTold(told + 1);
    asked += 2;
    Advance(c.wait - absl::Nanoseconds(1));
    ExpectAsked(asked);
    Advance(absl::Nanoseconds(1));
    asked += 2;
    AwaitAsked(asked);
  }
}

TEST_F(DnsResolverTest, AnAliasMayShortenTheTtl) {
  reply_ = [](const DnsQuestion& question) {
    return DnsReply{
        .answers = 2,
        .records = DnsRecord(test::kDnsCname, 7, test::DnsLabels("b.test")) + DnsRecord(1, 60, kV4)}
        .For(question);
  };
  StartHost();
  AwaitTold(1);
  Advance(absl::Seconds(7) - absl::Nanoseconds(1));
  ExpectAsked(2);
  Advance(absl::Nanoseconds(1));
  AwaitAsked(4);
}

TEST_F(DnsResolverTest, ResolveAgainAsksAtMostOnceASecond) {
  reply_ = Address(60);
  StartHost();
  AwaitTold(1);
  for (int i = 0; i < 100; ++i) ResolveAgain();
  ExpectAsked(2);
  Advance(absl::Seconds(1) - absl::Nanoseconds(1));
  ExpectAsked(2);
  Advance(absl::Nanoseconds(1));
  reply_ = Address(60, std::string("\x0a\0\0\x02", 4));
  AwaitTold(2);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.2:80"));
  ExpectAsked(4);
  Advance(absl::Seconds(30));
  ExpectAsked(4);
  ResolveAgain();  // the second has long passed
  AwaitAsked(6);
}

TEST_F(DnsResolverTest, ANegativeAnswerIsKeptForAsLongAsItsZoneSays) {
  // SOA: two names, four numbers, and the minimum: 12 s, though the record itself has more.
  const std::string soa =
      DnsRecord(test::kDnsSoa, 20,
                test::DnsLabels("ns.test") + test::DnsLabels("me.test") + test::DnsU32(1) + test::DnsU32(2) +
                    test::DnsU32(3) + test::DnsU32(4) + test::DnsU32(12));
  reply_ = [&](const DnsQuestion& question) {
    return DnsReply{.code = test::kDnsNoSuchName, .authorities = soa}.For(question);
  };
  StartHost();
  AwaitTold(1);
  EXPECT_THAT(told_.error(), HasSubstr("cannot find host \"a.test\": Domain name not found (asked of 127."));
  ResolveAgain();
  Advance(absl::Seconds(12) - absl::Nanoseconds(1));
  ExpectAsked(2);
  Advance(absl::Nanoseconds(1));
  AwaitTold(2);
  ExpectAsked(4);
}

TEST_F(DnsResolverTest, SaysWhoDidNotAnswerAndAsksLessAndLessOften) {
  StartHost();
  AwaitAsked(2);
  Advance(absl::Seconds(5) - absl::Nanoseconds(1));
  EXPECT_EQ(told_.count(), 0);
  Advance(absl::Nanoseconds(1));
  AwaitTold(1);
  EXPECT_EQ(told_.error(), absl::StrCat("cannot find host \"a.test\": Timeout while contacting DNS servers "
                                        "(asked of ",
                                        dns_.address(), ")"));
  // An hour of this, in steps that never miss a timer by more than one second: at most a lookup every 5 s of
  // waiting and then up to 30 s, 17.5 on average with much room.
  const int before = dns_.asked();
  for (int second = 0; second < 3600; ++second) {
    ResolveAgain();
    Advance(absl::Seconds(1));
    dns_.Serve();
  }
  const int lookups = (dns_.asked() - before) / 2;
  EXPECT_LT(lookups, 300);
  EXPECT_GT(lookups, 3600 / 36 - 1);
}

TEST_F(DnsResolverTest, UsesOneFamilyWhenTheOtherIsNotAnswered) {
  reply_ = [](const DnsQuestion& question) {
    return question.is(DnsType::kA) ? Address(60)(question) : std::string();
  };
  StartHost();
  AwaitAsked(2);
  loop_->RunUntilIdle();
  EXPECT_EQ(told_.count(), 0);
  Advance(absl::Seconds(5));
  AwaitTold(2);
  EXPECT_THAT(told_.list(), ElementsAre("10.0.0.1:80"));
  EXPECT_EQ(told_.error(), absl::StrCat("cannot find host \"a.test\": Timeout while contacting DNS servers "
                                        "(asked of ",
                                        dns_.address(), ")"));
}

TEST_F(DnsResolverTest, KeepsAFamilyThatIsNotAnswered) {
  reply_ = [](const DnsQuestion& question) {
    if (question.is(DnsType::kA)) return Address(10)(question);
    return DnsReply{.answers = 1, .records = DnsRecord(28, 10, kV6)}.For(question);
  };
  StartHost();
  AwaitTold(1);
  EXPECT_THAT(told_.servers(), ElementsAre("[::1]:80", "10.0.0.1:80"));
  reply_ = [](const DnsQuestion& question) {
    if (question.is(DnsType::kA)) return Address(10, std::string("\x0a\0\0\x02", 4))(question);
    return DnsReply{.code = test::kDnsServerFailure}.For(question);
  };
  Advance(absl::Seconds(10));
  AwaitTold(3);
  EXPECT_THAT(told_.list(), ElementsAre("[::1]:80", "10.0.0.2:80"));
  EXPECT_THAT(told_.error(), HasSubstr("cannot find host \"a.test\": "));
}

// Of three targets two are not to be had from the DNS server for a while.
class DnsTargetsTest : public DnsResolverTest {
 protected:
  // SRV records for x.test, y.test and z.test; the address of each ends with its letter's, or is what
  // `failing` says for all but x.
  static std::string Targets(const DnsQuestion& question, uint32_t ttl, const DnsReply* failing) {
    if (!question.is(DnsType::kA) && !question.is(DnsType::kAaaa)) {
      std::string records;
      for (const char* target : {"x.test", "y.test", "z.test"})
        records += DnsRecord(33, ttl, test::DnsSrvData(0, 1, 80, target));
      return DnsReply{.answers = 3, .records = records}.For(question);
    }
    if (failing != nullptr && question.name != "x.test") return failing->For(question);
    return Address(ttl, std::string("\x0a\0\0", 3) + question.name[0])(question);
  }
  void AnswerAll(uint32_t ttl) {
    reply_ = [ttl](const DnsQuestion& question) { return Targets(question, ttl, nullptr); };
  }
  void Fail(const DnsReply& failing, uint32_t ttl) {
    reply_ = [failing, ttl](const DnsQuestion& question) { return Targets(question, ttl, &failing); };
  }

  // 1 for the SRV records and 6 for addresses.
  static constexpr int kQuestions = 7;
  const DnsReply failure_{.code = test::kDnsServerFailure};
  const DnsReply no_such_name_{.code = test::kDnsNoSuchName};
  const std::vector<std::string> all_{"x.test:80 at 10.0.0.120:80", "y.test:80 at 10.0.0.121:80",
                                      "z.test:80 at 10.0.0.122:80"};
};

TEST_F(DnsTargetsTest, KeepsTargetsThatAreNotAnsweredAndAsksSoonAgain) {
  AnswerAll(60);
  StartService();
  AwaitTold(1);
  EXPECT_EQ(told_.servers(), all_);
  Fail(failure_, 60);
  Advance(absl::Seconds(60));
  AwaitTold(3);
  EXPECT_EQ(told_.list(), all_);
  EXPECT_THAT(told_.error(), AllOf(HasSubstr("cannot find target \""),
                                   HasSubstr(".test\" of \"_ferry._tcp.a.test\": Could not contact")));
  AnswerAll(60);
  // Up to 2 s after a first failure; the TTL is a minute.
  Advance(absl::Seconds(2));
  AwaitTold(4);
  EXPECT_EQ(told_.servers(), all_);
  const int asked = dns_.asked();
  Advance(absl::Seconds(60) - absl::Nanoseconds(1));
  ExpectAsked(asked);
  Advance(absl::Nanoseconds(1));
  AwaitAsked(asked + kQuestions);
}

TEST_F(DnsTargetsTest, AsksLessAndLessOftenForTargetsThatAreNotAnswered) {
  AnswerAll(3600);
  StartService();
  AwaitTold(1);
  Fail(failure_, 3600);
  ResolveAgain();
  Advance(absl::Seconds(1));
  AwaitTold(3);
  // Each lookup tells twice: the list and the error. At most 30 s apart, 15 on average.
  for (int second = 0; second < 3600; ++second) {
    ResolveAgain();
    Advance(absl::Seconds(1));
    dns_.Serve();
  }
  EXPECT_LT(told_.count(), 2 * 400);
  EXPECT_GT(told_.count(), 2 * 100);
  EXPECT_EQ(told_.list(), all_);
}

TEST_F(DnsTargetsTest, UsesWhatThereIsIfNothingWasKnown) {
  Fail(failure_, 60);
  StartService();
  AwaitTold(2);
  EXPECT_THAT(told_.list(), ElementsAre(all_[0]));
  EXPECT_THAT(told_.error(), HasSubstr("cannot find target \""));
}

TEST_F(DnsTargetsTest, ForgetsTargetsThatAreSaidNotToBeThere) {
  AnswerAll(60);
  StartService();
  AwaitTold(1);
  Fail(no_such_name_, 60);
  Advance(absl::Seconds(60));
  AwaitTold(2);
  EXPECT_THAT(told_.servers(), ElementsAre(all_[0]));
  // What was forgotten does not come back when nobody answers.
  Fail(failure_, 60);
  Advance(absl::Seconds(60));
  AwaitTold(4);
  EXPECT_THAT(told_.list(), ElementsAre(all_[0]));
}

TEST_F(DnsTargetsTest, IsAnErrorAndNoListIfNoTargetIsAnswered) {
  AnswerAll(60);
  StartService();
  AwaitTold(1);
  reply_ = [this](const DnsQuestion& question) {
    if (question.is(DnsType::kA) || question.is(DnsType::kAaaa)) return failure_.For(question);
    return Targets(question, 60, nullptr);
  };
  Advance(absl::Seconds(60));
  AwaitTold(2);
  EXPECT_FALSE(told_.ok());
}

TEST_F(DnsResolverTest, AFailureIsToldAndThenWhatWasThereBefore) {
  reply_ = Address(10);
  StartHost();
  AwaitTold(1);
  reply_ = [](const DnsQuestion& question) {
    return DnsReply{.code = test::kDnsServerFailure}.For(question);
  };
  Advance(absl::Seconds(10));
  AwaitTold(2);
  EXPECT_THAT(told_.error(), HasSubstr("cannot find host \"a.test\": "));
  reply_ = Address(10);
  Advance(absl::Seconds(30));
  AwaitTold(3);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:80"));
}

TEST_F(DnsResolverTest, SaysWhatIsMalformed) {
  struct Case {
    const char* name;
    DnsReply reply;
    const char* problem;
  };
  const std::string good = DnsRecord(33, 60, test::DnsSrvData(0, 0, 7000, "b.test"));
  const Case kCases[] = {
      {"too short", {.answers = 1, .records = DnsRecord(33, 60, "12345")}, "SRV record has 5 bytes"},
      {"no target", {.answers = 1, .records = DnsRecord(33, 60, "123456")}, "SRV record has 6 bytes"},
      {"no end of the target",
       {.answers = 1, .records = DnsRecord(33, 60, std::string("\0\0\0\0\0\x50\x04test", 11))},
       "the target of a SRV record does not end where its record does"},
      {"more after the target",
       {.answers = 1, .records = DnsRecord(33, 60, test::DnsSrvData(0, 0, 7000, "b.test") + "x")},
       "the target of a SRV record does not end where its record does"},
      {"a name that points at itself",
       {.answers = 1, .records = DnsRecord(33, 60, std::string("\0\0\0\0\0\x50\xc0\x36", 8))},
       "the target of a SRV record does not end where its record does"},
      {"port 0",
       {.answers = 2, .records = good + DnsRecord(33, 60, test::DnsSrvData(0, 0, 0, "b.test"))},
       "SRV record for \"b.test\" has port 0"},
      {"fewer records than it says", {.answers = 2, .records = good}, "it ends within record 2 of 2"},
      {"longer than it is",
       {.answers = 1, .records = good.substr(0, good.size() - 3)},
       "it ends within record 1 of 1"},
      {"records of another type only", {.answers = 1, .records = DnsRecord(1, 60, kV4)}, "no SRV record"},
      {"a service that is not to be had",
       {.answers = 1, .records = DnsRecord(33, 60, test::DnsSrvData(0, 0, 0, ""))},
       "its SRV record says that the service is not to be had"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    test::RunIn(*loop_, [this] { resolver_.reset(); });
    reply_ = [&](const DnsQuestion& question) { return c.reply.For(question); };
    const int told = told_.count();
    StartService();
    AwaitTold(told + 1);
    EXPECT_EQ(told_.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(told_.error(),
                AllOf(HasSubstr("cannot find SRV records \"_ferry._tcp.a.test\": "), HasSubstr(c.problem)));
  }
}

TEST_F(DnsResolverTest, SaysWhichAddressIsMalformed) {
  reply_ = Address(60, "12345");
  StartHost();
  AwaitTold(1);
  EXPECT_THAT(told_.error(), AllOf(HasSubstr("cannot find host \"a.test\": malformed answer: "),
                                   HasSubstr("A record has 5 bytes, must have 4")));
}

TEST_F(DnsResolverTest, GarbageIsNotAnAnswer) {
  reply_ = [n = 0](const DnsQuestion& question) mutable {
    if (n++ % 2 == 0) return std::string("garbage");
    DnsQuestion other = question;
    other.id ^= 1;
    return Address(60)(other);
  };
  StartHost();
  AwaitAsked(2);
  loop_->RunUntilIdle();
  Advance(absl::Seconds(5));
  AwaitTold(1);
  EXPECT_THAT(told_.error(), HasSubstr("cannot find host \"a.test\": "));
}

TEST_F(DnsResolverTest, ATruncatedAnswerWithoutTcpIsAnError) {
  reply_ = [](const DnsQuestion& question) { return DnsReply{.truncated = true}.For(question); };
  StartHost();
  AwaitTold(1);  // nobody listens by TCP
  EXPECT_THAT(told_.error(), HasSubstr("cannot find host \"a.test\": "));
}

TEST_F(DnsResolverTest, MayBeDestroyedWhileItAsks) {
  StartHost();
  AwaitAsked(2);
  test::RunIn(*loop_, [this] { resolver_.reset(); });
  Advance(absl::Hours(1));
  EXPECT_EQ(told_.count(), 0);
}

TEST_F(DnsResolverTest, MayBeDestroyedByWhatItTells) {
  class Destroyer final : public Resolver::Watcher {
   public:
    explicit Destroyer(std::unique_ptr<Resolver>& resolver) : resolver_(resolver) {}
    void OnServers(absl::StatusOr<std::vector<ResolvedServer>>) override { resolver_.reset(); }

   private:
    std::unique_ptr<Resolver>& resolver_;
  };
  Destroyer destroyer(resolver_);
  for (const bool found : {true, false}) {
    reply_ = [found](const DnsQuestion& question) {
      return found ? Address(60)(question) : DnsReply{.code = test::kDnsNoSuchName}.For(question);
    };
    DnsResolverOptions options = Options();
    options.servers = {dns_.address()};
    test::RunIn(*loop_, [&] {
      resolver_ = NewDnsResolver({.name = "a.test", .port = 80}, options, *loop_);
      resolver_->Start(destroyer);
    });
    test::RunUntil(*loop_, [&] {
      dns_.Serve();
      return resolver_ == nullptr;
    });
  }
}

TEST_F(DnsResolverTest, LocalhostIsOneServerAndNobodyIsAsked) {
  Start({.name = "localhost", .port = 80}, dns_.address());
  EXPECT_THAT(told_.servers(), ElementsAre("localhost:80 at [::1]:80,127.0.0.1:80"));
  ExpectAsked(0);
}

TEST_F(DnsResolverTest, TheHostsFileComesFirst) {
  const test::TemporaryDirectory directory;
  DnsResolverOptions options = Options();
  options.hosts_file = directory.path() + "/hosts";
  std::ofstream(options.hosts_file) << "# of this test\n10.0.0.7\tother A.test # and so on\n::7 a.test\n";
  Start({.name = "a.test", .port = 80}, dns_.address(), options);
  EXPECT_THAT(told_.servers(), ElementsAre("[::7]:80", "10.0.0.7:80"));
  std::ofstream(options.hosts_file) << "10.0.0.8 a.test\nnonsense a.test\n";
  Advance(DnsLookup::kLocalTtl);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.8:80"));
  ExpectAsked(0);
  std::ofstream(options.hosts_file) << "10.0.0.8 b.test\n";
  reply_ = Address(60);
  Advance(DnsLookup::kLocalTtl);
  AwaitTold(3);
  EXPECT_THAT(told_.servers(), ElementsAre("10.0.0.1:80"));
}

TEST(DnsResolverOptionsTest, SaysWhatIsWrong) {
  struct Case {
    DnsResolverOptions options;
    const char* problem;
  };
  const Case kCases[] = {
      {{.servers = {"dns.test"}}, "DNS server \"dns.test\": it is not an IP address"},
      {{.timeout = absl::ZeroDuration()}, "timeout is 0, must be positive"},
      {{.attempts = 0}, "attempts is 0, must be at least 1"},
      {{.timeout = absl::Seconds(1), .attempt_timeout = absl::Seconds(2)},
       "attempt_timeout is 2s, must be at most timeout, 1s"},
      {{.min_interval = absl::Minutes(10)}, "min_interval is 10m, must be at most max_ttl, 5m"},
      {{.negative_ttl = absl::Minutes(1)}, "negative_ttl is 1m, must be at most max_negative_ttl, 30s"},
      {{.max_backoff = absl::Milliseconds(1)}, "min_interval is 1s, must be at most max_backoff, 1ms"},
  };
  EXPECT_TRUE(DnsResolverOptions().Validate().ok());
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.problem);
    EXPECT_EQ(c.options.Validate().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(c.options.Validate().message()), HasSubstr(c.problem));
  }
}

}  // namespace
}  // namespace ferry
