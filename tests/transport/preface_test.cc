#include "ferry/transport/preface.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ferry::transport {
namespace {

using testing::HasSubstr;

std::string Preface() {
  std::string preface(kPrefaceSize, '\0');
  EncodePreface(preface.data());
  return preface;
}

TEST(PrefaceTest, HasTheBytesOfTheDocument) {  // [P2.1]
  EXPECT_EQ(Preface(), std::string("\xf5"
                                   "FRY\x01\0\0\n",
                                   8));
}

TEST(PrefaceTest, WaitsForEveryByte) {
  const std::string preface = Preface();
  for (size_t size = 0; size < preface.size(); ++size) {
    const absl::StatusOr<bool> whole = CheckPreface(absl::string_view(preface).substr(0, size));
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_FALSE(*whole) << size;
  }
}

TEST(PrefaceTest, IgnoresWhatFollows) {
  EXPECT_TRUE(CheckPreface(Preface()).value());
  EXPECT_TRUE(CheckPreface(Preface() + "GET / HTTP/1.1\r\n").value());
}

TEST(PrefaceTest, NamesWhatThePeerSpeaks) {  // [P2.3]
  const struct {
    const char* name;
    absl::string_view input;
    absl::StatusCode code;
    const char* message;
  } kCases[] = {
      {"HTTP/1 request", "GET / HTTP/1.1\r\n", absl::StatusCode::kInternal,
       "peer speaks HTTP, not Ferry: its first bytes are \"GET / HT\""},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n", absl::StatusCode::kInternal, "peer speaks HTTP"},
      {"HTTP response", "HTTP/1.1 400 Bad Request", absl::StatusCode::kInternal, "peer speaks HTTP"},
      {"first byte of an HTTP request", "P", absl::StatusCode::kInternal, "peer speaks HTTP"},
      {"TLS hello", absl::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9), absl::StatusCode::kInternal,
       "peer speaks TLS, not plain Ferry: its first bytes are 1603010200010001"},
      {"TLS alert", absl::string_view("\x15\x03\x01\x00\x02\x02\x46", 7), absl::StatusCode::kInternal,
       "peer speaks TLS"},
      {"major version 2",
       absl::string_view("\xf5"
                         "FRY\x02\x00\x00\n",
                         8),
       absl::StatusCode::kUnimplemented, "peer speaks major version 2 of Ferry, this is version 1"},
      {"major version 255, nothing after it",
       "\xf5"
       "FRY\xff",
       absl::StatusCode::kUnimplemented, "peer speaks major version 255 of Ferry, this is version 1"},
      {"text", "hello world", absl::StatusCode::kInternal,
       "peer does not speak Ferry: its first bytes are 68656c6c6f20776f"},
      {"almost",
       "\xf5"
       "FRZ",
       absl::StatusCode::kInternal, "first bytes are f546525a"},
      {"reserved bytes set",
       absl::string_view("\xf5"
                         "FRY\x01\x00\x01\n",
                         8),
       absl::StatusCode::kInternal, "first bytes are f54652590100010a"},
      {"zeros", absl::string_view("\0\0", 2), absl::StatusCode::kInternal, "first bytes are 0000"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    const absl::StatusOr<bool> whole = CheckPreface(c.input);
    EXPECT_EQ(whole.status().code(), c.code);
    EXPECT_THAT(std::string(whole.status().message()), HasSubstr(c.message));
  }
}

TEST(PrefaceTest, RejectsEveryWrongByteAtOnce) {  // [P2.3]
  for (size_t at = 0; at < kPrefaceSize; ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string input = Preface().substr(0, at + 1);
      if (static_cast<char>(value) == input[at]) continue;
      input[at] = static_cast<char>(value);
      EXPECT_FALSE(CheckPreface(input).ok()) << "byte " << at << " is " << value;
    }
  }
}

}  // namespace
}  // namespace ferry::transport
