#include "ferry/rpc/names/dns_message.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "ferry/transport/socket_address.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/rpc/names/fake_dns.h"
#include "tests/testing/random.h"

namespace ferry::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

constexpr uint16_t kA = 1;
constexpr uint16_t kAaaa = 28;
constexpr uint16_t kSrv = 33;
constexpr uint16_t kTxt = 16;

const std::string_view kLocalhost("\x7f\0\0\1", 4);

absl::Span<const uint8_t> Bytes(std::string_view message) {
  return {reinterpret_cast<const uint8_t*>(message.data()), message.size()};
}

// What is asked for does not matter to who reads the answer.
DnsQuestion Question() {
  return {.id = 7, .name = "a.test", .type = kA, .bytes = DnsLabels("a.test") + DnsU16(kA) + DnsU16(1)};
}

std::string Message(int answers, const std::string& records) {
  return DnsReply{.answers = answers, .records = records}.For(Question());
}

absl::StatusOr<DnsAnswer> Parse(int answers, const std::string& records, DnsType type = DnsType::kA) {
  return ParseDnsAnswer(Bytes(Message(answers, records)), type);
}

std::vector<std::string> Texts(const std::vector<transport::SocketAddress>& addresses) {
  std::vector<std::string> texts;
  texts.reserve(addresses.size());
  for (const transport::SocketAddress& address : addresses) texts.push_back(address.ToString());
  return texts;
}

TEST(DnsMessageTest, ReadsAddressesOfBothFamilies) {
  const auto v4 = Parse(2, DnsRecord(kA, 60, kLocalhost) + DnsRecord(kA, 30, "\x0a\1\2\3"));
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_THAT(Texts(v4->addresses), ElementsAre("127.0.0.1:0", "10.1.2.3:0"));
  EXPECT_EQ(v4->ttl, absl::Seconds(30)) << "the shortest-lived says";
  const auto v6 = Parse(1, DnsRecord(kAaaa, 60, std::string(15, '\0') + "\1"), DnsType::kAaaa);
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_THAT(Texts(v6->addresses), ElementsAre("[::1]:0"));
}

TEST(DnsMessageTest, ReadsServices) {
  const auto answer = Parse(2,
                            DnsRecord(kSrv, 60, DnsSrvData(1, 2, 7000, "host.a.test")) +
                                DnsRecord(kSrv, 60, DnsSrvData(3, 0, 0, "")),
                            DnsType::kSrv);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_THAT(answer->services, SizeIs(2));
  EXPECT_EQ(answer->services[0].priority, 1);
  EXPECT_EQ(answer->services[0].weight, 2);
  EXPECT_EQ(answer->services[0].port, 7000);
  EXPECT_EQ(answer->services[0].target, "host.a.test");
  EXPECT_EQ(answer->services[1].target, "") << "the service is not to be had";
}

TEST(DnsMessageTest, FollowsPointersInNames) {
  // "host" before a pointer to the question's name.
  const std::string data = DnsU16(0) + DnsU16(0) + DnsU16(7000) + std::string("\4host\xc0\x0c", 7);
  const auto answer = Parse(1, DnsRecord(kSrv, 60, data), DnsType::kSrv);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_THAT(answer->services, SizeIs(1));
  EXPECT_EQ(answer->services[0].target, "host.a.test");
}

TEST(DnsMessageTest, LooksAtNoOtherRecords) {
  std::string other_class = DnsRecord(kA, 1, "\1\1\1\1");
  other_class[5] = 3;  // of Chaosnet
  const auto answer =
      Parse(4, DnsRecord(kTxt, 1, "\3abc") + other_class + DnsRecord(kAaaa, 1, std::string(16, '\0')) +
                   DnsRecord(kA, 60, kLocalhost));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(Texts(answer->addresses), ElementsAre("127.0.0.1:0"));
  EXPECT_EQ(answer->ttl, absl::Seconds(60));
}

TEST(DnsMessageTest, AnAliasOnTheWayLimitsTheTime) {
  const auto answer = Parse(2, DnsRecord(kDnsCname, 5, DnsLabels("b.test")) + DnsRecord(kA, 60, kLocalhost));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ttl, absl::Seconds(5));
}

TEST(DnsMessageTest, ATimeWithItsSignBitSetIsZero) {
  EXPECT_EQ(Parse(1, DnsRecord(kA, 0x7fffffff, kLocalhost))->ttl, absl::Seconds(0x7fffffff));
  EXPECT_EQ(Parse(1, DnsRecord(kA, 0x80000000, kLocalhost))->ttl, absl::ZeroDuration());
  EXPECT_EQ(Parse(1, DnsRecord(kA, 0, kLocalhost))->ttl, absl::ZeroDuration());
}

TEST(DnsMessageTest, AnAnswerWithoutSuchRecordsIsNotMalformed) {
  EXPECT_EQ(Parse(0, "", DnsType::kA).status(), absl::NotFoundError("the answer has no A record"));
  EXPECT_EQ(Parse(1, DnsRecord(kA, 1, kLocalhost), DnsType::kSrv).status(),
            absl::NotFoundError("the answer has no SRV record"));
}

TEST(DnsMessageTest, RejectsMalformedAnswers) {
  struct Case {
    const char* name;
    DnsType type;
    int answers;
    std::string records;
    std::string problem;
  };
  const std::string loop = DnsU16(0) + DnsU16(0) + DnsU16(1);
  // Where the data of a first record begins: behind the header, the question and the record's own head.
  const size_t data = 12 + Question().bytes.size() + 12;
  const Case kCases[] = {
      {"fewer records than it says", DnsType::kA, 2, DnsRecord(kA, 1, kLocalhost), "within record 2 of 2"},
      {"A too short", DnsType::kA, 1, DnsRecord(kA, 1, "\1\2\3"), "A record has 3 bytes, must have 4"},
      {"A too long", DnsType::kA, 1, DnsRecord(kA, 1, "\1\2\3\4\5"), "A record has 5 bytes, must have 4"},
      {"AAAA of four bytes", DnsType::kAaaa, 1, DnsRecord(kAaaa, 1, kLocalhost),
       "AAAA record has 4 bytes, must have 16"},
      {"empty SRV", DnsType::kSrv, 1, DnsRecord(kSrv, 1, ""), "SRV record has 0 bytes"},
      {"SRV without a target", DnsType::kSrv, 1, DnsRecord(kSrv, 1, DnsU16(0) + DnsU16(0) + DnsU16(1)),
       "SRV record has 6 bytes, must have more than 6"},
      {"SRV with port 0", DnsType::kSrv, 1, DnsRecord(kSrv, 1, DnsSrvData(0, 0, 0, "b.test")),
       "SRV record for \"b.test\" has port 0"},
      {"SRV that goes on behind its target", DnsType::kSrv, 1,
       DnsRecord(kSrv, 1, DnsSrvData(0, 0, 1, "b.test") + "x"), "does not end where its record does"},
      {"SRV whose target goes on behind it", DnsType::kSrv, 2,
       DnsRecord(kSrv, 1, loop + "\5ab") + DnsRecord(kSrv, 1, DnsSrvData(0, 0, 1, "b.test")),
       "does not end where its record does"},
      {"a name that points to itself", DnsType::kSrv, 1,
       DnsRecord(kSrv, 1, loop + "\xc0" + std::string(1, static_cast<char>(data + 6))),
       "does not end where its record does"},
      {"a name that points behind the message", DnsType::kSrv, 1, DnsRecord(kSrv, 1, loop + "\xff\xff"),
       "does not end where its record does"},
      {"a label of a kind that does not exist", DnsType::kSrv, 1, DnsRecord(kSrv, 1, loop + "\x80"),
       "does not end where its record does"},
      {"data behind the end", DnsType::kA, 1, DnsRecord(kA, 1, kLocalhost).substr(0, 15),
       "within record 1 of 1"},
      {"more data than a message holds", DnsType::kA, 1, DnsRecord(kTxt, 1, "").substr(0, 10) + "\xff\xff",
       "within record 1 of 1"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::Status status = Parse(c.answers, c.records, c.type).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.problem));
  }
}

// Whatever is cut off an answer: it is refused, and nothing beyond it is read.
TEST(DnsMessageTest, RejectsEveryPartOfAnAnswer) {
  const std::string whole =
      Message(2, DnsRecord(kDnsCname, 5, DnsLabels("b.test")) + DnsRecord(kA, 1, kLocalhost));
  ASSERT_TRUE(ParseDnsAnswer(Bytes(whole), DnsType::kA).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    // A copy of its own, whose end AddressSanitizer knows.
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(ParseDnsAnswer(part, DnsType::kA).ok()) << size;
  }
}

TEST(DnsMessageTest, ReadsAnyBytesWithoutHarm) {
  Random random;
  const std::string whole =
      DnsReply{.answers = 3,
               .records = DnsRecord(kDnsCname, 5, DnsLabels("b.test")) +
                          DnsRecord(kSrv, 1, DnsSrvData(0, 0, 1, "b.test")) + DnsRecord(kA, 1, kLocalhost),
               .authorities = DnsRecord(kDnsSoa, 9, DnsLabels("a") + DnsLabels("b") + std::string(20, '\1'))}
          .For(Question());
  for (int i = 0; i < 20'000; ++i) {
    std::vector<uint8_t> bytes(whole.begin(), whole.end());
    for (int changes = static_cast<int>(random.Number(1, 4)); changes > 0; --changes) {
      bytes[random.Number(0, bytes.size() - 1)] = static_cast<uint8_t>(random.Number(0, 255));
    }
    bytes.resize(random.Number(0, bytes.size()));
    for (const DnsType type : {DnsType::kA, DnsType::kAaaa, DnsType::kSrv}) {
      static_cast<void>(ParseDnsAnswer(bytes, type));
    }
    static_cast<void>(ParseNegativeTtl(bytes));
  }
}

std::optional<absl::Duration> NegativeTtl(const std::string& authorities) {
  return ParseNegativeTtl(
      Bytes(DnsReply{.code = kDnsNoSuchName, .authorities = authorities}.For(Question())));
}

std::string Soa(uint32_t ttl, uint32_t minimum) {
  return DnsRecord(kDnsSoa, ttl,
                   DnsLabels("ns.test") + DnsLabels("keeper.test") + DnsU32(1) + DnsU32(2) + DnsU32(3) +
                       DnsU32(4) + DnsU32(minimum));
}

TEST(DnsMessageTest, ANegativeAnswerIsKeptForTheShorterOfItsTimes) {
  EXPECT_EQ(NegativeTtl(Soa(60, 5)), absl::Seconds(5));
  EXPECT_EQ(NegativeTtl(Soa(5, 60)), absl::Seconds(5));
  EXPECT_EQ(NegativeTtl(Soa(0x80000000, 60)), absl::ZeroDuration());
}

TEST(DnsMessageTest, ANegativeAnswerNeedNotSayHowLong) {
  EXPECT_EQ(NegativeTtl(""), std::nullopt);
  EXPECT_EQ(NegativeTtl(DnsRecord(kTxt, 1, "\3abc")), std::nullopt);
}

TEST(DnsMessageTest, APartOfANegativeAnswerSaysNothing) {
  const std::string whole = DnsReply{.code = kDnsNoSuchName, .authorities = Soa(60, 5)}.For(Question());
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(ParseNegativeTtl(part), std::nullopt) << size;
  }
}

}  // namespace
}  // namespace ferry::test
