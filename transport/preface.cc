#include "ferry/transport/preface.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ferry::transport {
namespace {

constexpr char kPreface[kPrefaceSize + 1] =
    "\xf5"
    "FRY\x01\x00\x00\n";
constexpr size_t kMajorAt = 4;

// Whether one of the two begins with the other: on a slow line the first byte may come alone.
bool Agree(absl::string_view a, absl::string_view b) {
  const size_t size = std::min(a.size(), b.size());
  return a.substr(0, size) == b.substr(0, size);
}

bool LooksLikeHttp(absl::string_view input) {
  constexpr absl::string_view kBeginnings[] = {"GET ",    "POST ",    "PUT ",     "HEAD ",
                                               "DELETE ", "OPTIONS ", "CONNECT ", "PATCH ",
                                               "TRACE ",  "PRI * ",   "HTTP/"};
  return std::any_of(std::begin(kBeginnings), std::end(kBeginnings),
                     [input](absl::string_view beginning) { return Agree(input, beginning); });
}

// A TLS record: of type handshake (what a client sends) or alert (what a server answers when it hears no
// TLS), and of a version that begins with 3.
bool LooksLikeTls(absl::string_view input) { return Agree(input, "\x16\x03") || Agree(input, "\x15\x03"); }

bool IsOtherMajor(absl::string_view input) {
  const absl::string_view preface(kPreface, kPrefaceSize);
  return input.size() > kMajorAt && input.substr(0, kMajorAt) == preface.substr(0, kMajorAt) &&
         input[kMajorAt] != preface[kMajorAt];
}

}  // namespace

void EncodePreface(char* out) { std::copy_n(kPreface, kPrefaceSize, out); }

absl::StatusOr<bool> CheckPreface(absl::string_view input) {
  const absl::string_view begin = input.substr(0, kPrefaceSize);
  if (Agree(begin, absl::string_view(kPreface, kPrefaceSize))) return begin.size() == kPrefaceSize;
  if (IsOtherMajor(begin)) {
    return absl::UnimplementedError(absl::StrCat("peer speaks major version ",
                                                 static_cast<uint8_t>(begin[kMajorAt]),
                                                 " of Ferry, this is version ", kMajorVersion));
  }
  if (LooksLikeHttp(begin)) {
    return absl::InternalError(
        absl::StrCat("peer speaks HTTP, not Ferry: its first bytes are \"", absl::CHexEscape(begin), "\""));
  }
  if (LooksLikeTls(begin)) {
    return absl::InternalError(absl::StrCat("peer speaks TLS, not plain Ferry: its first bytes are ",
                                            absl::BytesToHexString(begin)));
  }
  return absl::InternalError(
      absl::StrCat("peer does not speak Ferry: its first bytes are ", absl::BytesToHexString(begin)));
}

}  // namespace ferry::transport
