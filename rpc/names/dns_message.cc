#include "ferry/rpc/names/dns_message.h"

#include <ares.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ferry {
namespace {

constexpr uint16_t kClassInternet = 1;
constexpr uint16_t kTypeCname = 5;
constexpr uint16_t kTypeSoa = 6;

absl::Status Malformed(absl::string_view problem) {
  return absl::UnavailableError(absl::StrCat("malformed answer: ", problem));
}

// A Reader takes one thing after the other off a message. Once something was not there, ok() is false and all
// that follows is zero.
class Reader {
 public:
  explicit Reader(absl::Span<const uint8_t> message) : message_(message) {}

  bool ok() const { return ok_; }
  size_t position() const { return position_; }

  uint16_t TakeU16() {
    if (!Has(2)) return 0;
    const uint8_t* at = message_.data() + position_;
    position_ += 2;
    return static_cast<uint16_t>(at[0] << 8 | at[1]);
  }
  uint32_t TakeU32() {
    const uint32_t high = TakeU16();
    return high << 16 | TakeU16();
  }
  const uint8_t* TakeBytes(size_t size) {
    if (!Has(size)) return nullptr;
    position_ += size;
    return message_.data() + position_ - size;
  }
  // Compressed names too; c-ares sees to their loops and bounds.
  std::string TakeName() {
    char* text = nullptr;
    long size = 0;
    ok_ = ok_ && position_ < message_.size() &&
          ares_expand_name(message_.data() + position_, message_.data(), static_cast<int>(message_.size()),
                           &text, &size) == ARES_SUCCESS;
    if (!ok_) return "";
    std::string name(text);
    ares_free_string(text);
    TakeBytes(static_cast<size_t>(size));
    return name;
  }

 private:
  bool Has(size_t size) {
    ok_ = ok_ && message_.size() - position_ >= size;
    return ok_;
  }

  const absl::Span<const uint8_t> message_;
  size_t position_ = 0;
  bool ok_ = true;
};

// RFC 1035, section 4.1.1.
struct Header {
  uint16_t questions;
  uint16_t answers;
  uint16_t authorities;
};

// Takes the header and the questions.
Header TakeHeader(Reader& reader) {
  reader.TakeU32();  // ID and flags
  Header header{};
  header.questions = reader.TakeU16();
  header.answers = reader.TakeU16();
  header.authorities = reader.TakeU16();
  reader.TakeU16();  // additional records
  for (int i = 0; i < header.questions && reader.ok(); ++i) {
    reader.TakeName();
    reader.TakeU32();  // type and class
  }
  return header;
}

// What a record begins with: RFC 1035, section 4.1.3.
struct RecordHead {
  uint16_t type;
  uint16_t record_class;
  absl::Duration ttl;
  uint16_t size;
};

RecordHead TakeRecordHead(Reader& reader) {
  reader.TakeName();
  RecordHead head{};
  head.type = reader.TakeU16();
  head.record_class = reader.TakeU16();
  const uint32_t ttl = reader.TakeU32();
  // RFC 2181, section 8: one with the sign bit set is as good as zero.
  head.ttl = ttl > 0x7fffffff ? absl::ZeroDuration() : absl::Seconds(ttl);
  head.size = reader.TakeU16();
  return head;
}

absl::Status CheckSize(const char* type, size_t size, size_t wanted) {
  if (size == wanted) return absl::OkStatus();
  return Malformed(absl::StrCat(type, " record has ", size, " bytes, must have ", wanted));
}

absl::Status TakeA(Reader& reader, size_t size, DnsAnswer& answer) {
  if (absl::Status checked = CheckSize("A", size, 4); !checked.ok()) return checked;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_addr, reader.TakeBytes(size), size);
  answer.addresses.emplace_back(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return absl::OkStatus();
}

absl::Status TakeAaaa(Reader& reader, size_t size, DnsAnswer& answer) {
  if (absl::Status checked = CheckSize("AAAA", size, 16); !checked.ok()) return checked;
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  std::memcpy(&address.sin6_addr, reader.TakeBytes(size), size);
  answer.addresses.emplace_back(reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return absl::OkStatus();
}

absl::Status TakeSrv(Reader& reader, size_t size, DnsAnswer& answer) {
  constexpr size_t kFixed = 6;
  if (size <= kFixed)
    return Malformed(absl::StrCat("SRV record has ", size, " bytes, must have more than ", kFixed));
  const size_t end = reader.position() + size;
  SrvRecord record;
  record.priority = reader.TakeU16();
  record.weight = reader.TakeU16();
  record.port = reader.TakeU16();
  record.target = reader.TakeName();
  if (!reader.ok() || reader.position() != end)
    return Malformed("the target of a SRV record does not end where its record does");
  if (record.port == 0 && !record.target.empty())
    return Malformed(absl::StrCat("SRV record for \"", record.target, "\" has port 0"));
  answer.services.push_back(std::move(record));
  return absl::OkStatus();
}

// REQUIRES: `size` bytes are there.
absl::Status TakeRecord(Reader& reader, DnsType type, size_t size, DnsAnswer& answer) {
  switch (type) {
    case DnsType::kA:
      return TakeA(reader, size, answer);
    case DnsType::kAaaa:
      return TakeAaaa(reader, size, answer);
    case DnsType::kSrv:
      return TakeSrv(reader, size, answer);
  }
  return absl::OkStatus();
}

}  // namespace

const char* DnsTypeName(DnsType type) {
  switch (type) {
    case DnsType::kA:
      return "A";
    case DnsType::kAaaa:
      return "AAAA";
    case DnsType::kSrv:
      return "SRV";
  }
  return "";
}

absl::StatusOr<DnsAnswer> ParseDnsAnswer(absl::Span<const uint8_t> message, DnsType type) {
  Reader reader(message);
  const Header header = TakeHeader(reader);
  DnsAnswer answer;
  for (int i = 0; i < header.answers; ++i) {
    const RecordHead head = TakeRecordHead(reader);
    const size_t start = reader.position();
    if (!reader.ok() || message.size() - start < head.size)
      return Malformed(absl::StrCat("it ends within record ", i + 1, " of ", header.answers));
    const bool wanted = head.record_class == kClassInternet && head.type == static_cast<uint16_t>(type);
    if (wanted || head.type == kTypeCname) answer.ttl = std::min(answer.ttl, head.ttl);
    if (!wanted) {
      reader.TakeBytes(head.size);
      continue;
    }
    if (absl::Status taken = TakeRecord(reader, type, head.size, answer); !taken.ok()) return taken;
  }
  if (!reader.ok()) return Malformed("it ends within its questions");
  if (answer.addresses.empty() && answer.services.empty())
    return absl::NotFoundError(absl::StrCat("the answer has no ", DnsTypeName(type), " record"));
  return answer;
}

std::optional<absl::Duration> ParseNegativeTtl(absl::Span<const uint8_t> message) {
  Reader reader(message);
  const Header header = TakeHeader(reader);
  for (int i = 0; i < header.answers + header.authorities; ++i) {
    const RecordHead head = TakeRecordHead(reader);
    if (!reader.ok()) return std::nullopt;
    if (head.type != kTypeSoa) {
      reader.TakeBytes(head.size);
      continue;
    }
    reader.TakeName();                                            // the zone's server
    reader.TakeName();                                            // and its keeper
    for (int number = 0; number < 4; ++number) reader.TakeU32();  // serial, refresh, retry, expire
    const uint32_t minimum = reader.TakeU32();
    if (!reader.ok()) return std::nullopt;
    return std::min(head.ttl, absl::Seconds(minimum));
  }
  return std::nullopt;
}

}  // namespace ferry
