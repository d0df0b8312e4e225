#include "tests/testing/capture.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ferry::test {
namespace {

bool IsHex(absl::string_view text) {
  for (char c : text) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  return text.size() % 2 == 0;
}

// "C> REQUEST length=19 slot=1"
absl::Status ParseFirstLine(absl::string_view text, CaptureRecord& record) {
  record.sender = absl::StartsWith(text, "C> ") ? Side::kClient : Side::kServer;
  std::vector<std::string> words = absl::StrSplit(text.substr(3), ' ', absl::SkipWhitespace());
  if (words.empty()) return absl::InvalidArgumentError("a record has no name");
  record.name = words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    const std::pair<std::string, std::string> field = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    if (field.second.empty())
      return absl::InvalidArgumentError(absl::StrCat("\"", words[i], "\" is no field=value"));
    record.fields.insert(field);
  }
  return absl::OkStatus();
}

// An indented line: hex bytes, or the head's text; then a comment.
absl::Status ParseFurtherLine(absl::string_view text, CaptureRecord& record) {
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumePrefix(&text, "head: ")) {
    record.head = std::string(text);
    return absl::OkStatus();
  }
  const std::string hex = absl::StrReplaceAll(text.substr(0, text.find('#')), {{" ", ""}});
  if (!IsHex(hex)) return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not hex bytes"));
  record.bytes += absl::HexStringToBytes(hex);
  return absl::OkStatus();
}

absl::Status ParseLine(absl::string_view text, int line, std::vector<CaptureRecord>& records) {
  if (absl::StripAsciiWhitespace(text).empty() || text[0] == '#') return absl::OkStatus();
  if (absl::StartsWith(text, "C> ") || absl::StartsWith(text, "S> ")) {
    return ParseFirstLine(text, records.emplace_back(CaptureRecord{.line = line}));
  }
  if (text[0] != ' ' || records.empty()) {
    return absl::InvalidArgumentError("a line is neither a record nor part of one");
  }
  return ParseFurtherLine(text, records.back());
}

}  // namespace

uint64_t CaptureRecord::Number(const std::string& field) const {
  const auto it = fields.find(field);
  return it == fields.end() ? 0 : std::strtoull(it->second.c_str(), nullptr, 0);
}

absl::StatusOr<std::string> ReadProtocolDocument() {
  constexpr char kPath[] = "rpc/PROTOCOL.md";
  std::ifstream file(kPath);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", kPath));
  return text.str();
}

absl::StatusOr<std::vector<CaptureRecord>> ParseCapture(absl::string_view document, absl::string_view block) {
  const std::string begin = absl::StrCat("```ferry-capture ", block);
  std::vector<CaptureRecord> records;
  bool inside = false;
  int line = 0;
  for (absl::string_view text : absl::StrSplit(document, '\n')) {
    ++line;
    if (!inside) {
      inside = text == begin;
      continue;
    }
    if (text == "```") return records;
    if (absl::Status status = ParseLine(text, line, records); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", status.message()));
    }
  }
  return absl::NotFoundError(absl::StrCat("no whole block ", begin));
}

}  // namespace ferry::test
