#include "ferry/codegen/comments.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "ferry/codegen/format.h"

namespace ferry::codegen {
namespace {

// Encoded, U+202A to U+202E and U+2066 to U+2069: compilers reject these when they do not come in pairs.
bool StartsWithDirectionMark(absl::string_view text) {
  if (text.size() < 3 || text[0] != '\xe2') return false;
  const unsigned char middle = text[1];
  const unsigned char last = text[2];
  return (middle == 0x80 && last >= 0xaa && last <= 0xae) || (middle == 0x81 && last >= 0xa6 && last <= 0xa9);
}

std::string Defuse(absl::string_view line) {
  std::string out;
  for (size_t i = 0; i < line.size(); ++i) {
    if (StartsWithDirectionMark(line.substr(i))) {
      i += 2;
    } else {
      out += absl::ascii_iscntrl(line[i]) ? ' ' : line[i];
    }
  }
  absl::StripTrailingAsciiWhitespace(&out);
  return out;
}

// A line that ended so would go on in the next one; ??/ is a backslash in older C++.
bool ContinuesOnNextLine(absl::string_view line) {
  return absl::EndsWith(line, "\\") || absl::EndsWith(line, "?\?/");
}

// The columns that `text` takes at most: characters outside Latin and its neighbours count as two.
size_t Width(absl::string_view text) {
  size_t width = 0;
  for (const unsigned char c : text) {
    if (c < 0x80 || (c >= 0xc0 && c < 0xe1)) {
      width += 1;
    } else if (c >= 0xe1) {
      width += 2;
    }
  }
  return width;
}

// Ends a line of a comment.
void FinishLine(std::string line, std::string& out) {
  absl::StripTrailingAsciiWhitespace(&line);
  absl::StrAppend(&out, line, ContinuesOnNextLine(line) ? " .\n" : "\n");
}

// Appends one line of text, broken between words where it would not fit. What it is broken into is indented
// alike.
void AppendWrapped(absl::string_view text, int indent, std::string& out) {
  const std::string margin = absl::StrCat(std::string(indent, ' '), "// ");
  const std::string begin = absl::StrCat(margin, text.substr(0, text.find_first_not_of(' ')));
  std::string line = begin;
  for (absl::string_view word : absl::StrSplit(absl::StripLeadingAsciiWhitespace(text), ' ')) {
    const size_t end = ContinuesOnNextLine(word) ? 2 : 0;
    if (line.size() > begin.size() && !Fits(Width(line) + Width(word) + end)) {
      FinishLine(std::move(line), out);
      line = begin;
    }
    if (!word.empty() || line.size() > begin.size()) absl::StrAppend(&line, word, " ");
  }
  FinishLine(std::move(line), out);
}

// The lines of one comment, without what the parser leaves of comment signs: the third slash of `///` and one
// space.
std::vector<std::string> Lines(absl::string_view comment) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(comment, '\n')) {
    const bool third_slash = absl::ConsumePrefix(&line, "/");
    if (third_slash && !line.empty() && line[0] == '/') line = "";  // A ruler: //////
    absl::ConsumePrefix(&line, " ");
    lines.emplace_back(line);
  }
  return lines;
}

std::vector<std::string> WithoutEmptyEnds(std::vector<std::string> lines) {
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  size_t first = 0;
  while (first < lines.size() && lines[first].empty()) ++first;
  lines.erase(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(first));
  return lines;
}

}  // namespace

std::string CommentLines(absl::string_view text, int indent) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n')) lines.push_back(Defuse(line));
  std::string out;
  for (const std::string& line : WithoutEmptyEnds(std::move(lines))) AppendWrapped(line, indent, out);
  return out;
}

std::string JoinComments(const google::protobuf::SourceLocation& location) {
  const std::string before = absl::StrJoin(WithoutEmptyEnds(Lines(location.leading_comments)), "\n");
  const std::string beside = absl::StrJoin(WithoutEmptyEnds(Lines(location.trailing_comments)), "\n");
  return absl::StrCat(before, before.empty() || beside.empty() ? "" : "\n\n", beside);
}

}  // namespace ferry::codegen
