// One request, one reply.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/channel.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/cases.h"
#include "tests/conformance/payload.h"

namespace ferry::test::conformance {
namespace {

// A sanitizer makes all of this many times slower.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FERRY_TEST_SANITIZED
#endif
#endif
#ifdef FERRY_TEST_SANITIZED
constexpr size_t kConcurrentCalls = 100;
#else
constexpr size_t kConcurrentCalls = 1'000;
#endif

constexpr size_t kLargeRequest = 271'828;
constexpr size_t kLargeReply = 314'159;
constexpr size_t kSmallRequest = 1'000;
constexpr size_t kSmallReply = 700;

void ExpectReply(const absl::StatusOr<Reply>& reply, size_t sent, size_t received, Findings& findings) {
  findings.ExpectOk(reply.status(), "the call");
  if (!reply.ok()) return;
  findings.ExpectEqual(reply->received(), sent, "what the server received");
  findings.ExpectEqual(reply->payload().size(), received, "the reply's size");
  findings.Expect(reply->payload() == PatternOf(received), "the reply's bytes are right");
}

void EmptyUnary(Fixture& fixture, Findings& findings) {
  const absl::StatusOr<Reply> reply = fixture.caller().Unary(Request());
  ExpectReply(reply, 0, 0, findings);
  if (reply.ok()) findings.ExpectEqual(reply->ByteSizeLong(), 0u, "the encoded reply's size");
}

void LargeUnary(Fixture& fixture, Findings& findings) {
  const Request request = RequestOf(kLargeRequest, {kLargeReply});
  ExpectReply(fixture.caller().Unary(request), kLargeRequest, kLargeReply, findings);
}

// Of so many calls at once one is large: reading a byte at a time takes a quarter of a microsecond a byte.
size_t LargeEvery(const Fixture& fixture) {
  if (fixture.mode().transport == Transport::kOneByte) return 100;
  return fixture.scale() == Scale::kWhole ? 1 : 10;
}

// All are started before any is waited for. One connection would have more to hold than it may.
void ConcurrentLargeUnary(Fixture& fixture, Findings& findings) {
  // Of no common factor with the numbers above.
  constexpr size_t kChannels = 3;
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::unique_ptr<Caller>> callers;
  channels.reserve(kChannels);
  callers.reserve(kChannels);
  for (size_t i = 0; i < kChannels; ++i) {
    channels.push_back(fixture.NewChannel());
    callers.push_back(NewCaller(fixture.mode().form, *channels.back()));
  }
  const Request large = RequestOf(kLargeRequest, {kLargeReply});
  const Request small = RequestOf(kSmallRequest, {kSmallReply});
  const auto is_large = [every = LargeEvery(fixture)](size_t i) { return i % every == 0; };
  std::vector<std::unique_ptr<UnaryResult>> results;
  results.reserve(kConcurrentCalls);
  for (size_t i = 0; i < kConcurrentCalls; ++i) {
    results.push_back(callers[i % kChannels]->StartUnary(is_large(i) ? large : small));
  }
  for (size_t i = 0; i < kConcurrentCalls; ++i) {
    ExpectReply(results[i]->Wait(), is_large(i) ? kLargeRequest : kSmallRequest,
                is_large(i) ? kLargeReply : kSmallReply, findings);
  }
}

}  // namespace

std::vector<Case> UnaryCases() {
  return {
      {.name = "EmptyUnary", .served = EmptyUnary},
      {.name = "LargeUnary", .served = LargeUnary},
      {.name = "ConcurrentLargeUnary", .served = ConcurrentLargeUnary},
  };
}

}  // namespace ferry::test::conformance
