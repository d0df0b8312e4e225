#include "ferry/codegen/format.h"

#include <cstddef>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ferry::codegen {
namespace {

constexpr int kContinuationIndent = 4;

std::string Margin(size_t columns) { return std::string(columns, ' '); }

// Adds `piece` to the lines of `out`, the last of which has no end yet, or begins one in column `margin` for
// it. Returns false if it is too long for a line.
bool AddPiece(absl::string_view piece, size_t margin, std::string& out) {
  const size_t column = out.size() - (out.rfind('\n') + 1);
  const bool begins_line = column <= margin || out.back() == '(';
  if (begins_line) {
    absl::StrAppend(&out, piece);
    return Fits(column + piece.size());
  }
  if (Fits(column + 1 + piece.size())) {
    absl::StrAppend(&out, " ", piece);
    return true;
  }
  absl::StrAppend(&out, "\n", Margin(margin), piece);
  return Fits(margin + piece.size());
}

// Whether what cannot be broken well may be broken all the same: before the end, or before the last
// parameter's name.
enum class Breaks { kGood, kAny };

// Puts as many parameters as fit on the line that `out` has begun, and the others on lines that begin in
// column `margin`. Returns nullopt if one is too long for a line.
std::optional<std::string> Fill(std::string out, const Signature& signature, size_t margin, Breaks breaks) {
  const size_t last = signature.parameters.size() - 1;
  for (size_t i = 0; i < last; ++i) {
    if (!AddPiece(absl::StrCat(signature.parameters[i], ","), margin, out)) return std::nullopt;
  }
  const std::string& parameter = signature.parameters[last];
  const std::string before_last = out;
  if (AddPiece(absl::StrCat(parameter, ")", signature.end), margin, out)) return absl::StrCat(out, "\n");
  if (breaks == Breaks::kGood) return std::nullopt;
  out = before_last;
  const bool end_is_word = signature.end.size() > 2;
  if (end_is_word && AddPiece(absl::StrCat(parameter, ")"), margin, out)) {
    return absl::StrCat(out, "\n", Margin(margin), signature.end.substr(1), "\n");
  }
  const size_t space = parameter.rfind(' ');
  out = before_last;
  if (space == std::string::npos || !AddPiece(parameter.substr(0, space), margin, out)) return std::nullopt;
  return absl::StrCat(out, "\n", Margin(margin + kContinuationIndent), parameter.substr(space + 1), ")",
                      signature.end, "\n");
}

// `head(` with the parameters behind it, or else with all of them on lines below it.
std::optional<std::string> LayoutFrom(const std::string& head, const Signature& signature, size_t indent,
                                      Breaks breaks) {
  const std::string open = absl::StrCat(head, "(");
  if (std::optional<std::string> aligned = Fill(open, signature, open.size(), Breaks::kGood)) return aligned;
  if (!Fits(open.size())) return std::nullopt;
  const size_t margin = indent + kContinuationIndent;
  std::optional<std::string> below = Fill(Margin(margin), signature, margin, breaks);
  if (!below.has_value()) return std::nullopt;
  return absl::StrCat(open, "\n", *below);
}

}  // namespace

std::string Layout(const Signature& signature, int indent) {
  const std::string margin = Margin(indent);
  const std::string result = signature.result.empty() ? "" : absl::StrCat(signature.result, " ");
  const std::string beside = absl::StrCat(margin, result, signature.name);
  const std::string below = absl::StrCat(margin, signature.name);
  for (const Breaks breaks : {Breaks::kGood, Breaks::kAny}) {
    if (std::optional<std::string> out = LayoutFrom(beside, signature, indent, breaks))
      return *std::move(out);
    if (result.empty()) continue;
    if (std::optional<std::string> out = LayoutFrom(below, signature, indent, breaks)) {
      return absl::StrCat(margin, signature.result, "\n", *out);
    }
  }
  // A single parameter is wider than a line: it compiles, however it looks.
  return absl::StrCat(beside, "(", absl::StrJoin(signature.parameters, ", "), ")", signature.end, "\n");
}

std::string LayoutMember(absl::string_view type, absl::string_view first, absl::string_view second,
                         absl::string_view name, int indent) {
  const std::string margin = Margin(indent);
  const std::string open = absl::StrCat(margin, type, "<");
  const std::string one_line = absl::StrCat(open, first, ", ", second, ">");
  const std::string declared = absl::StrCat(name, ";");
  if (Fits(one_line.size() + 1 + declared.size())) return absl::StrCat(one_line, " ", declared, "\n");
  const std::string below = absl::StrCat("\n", margin, Margin(kContinuationIndent), declared, "\n");
  if (Fits(one_line.size())) return absl::StrCat(one_line, below);
  return absl::StrCat(open, first, ",\n", Margin(open.size()), second, ">", below);
}

std::string LayoutConstructor(const Signature& signature, const std::vector<std::string>& initializers) {
  Signature head = signature;
  if (initializers.empty()) {
    head.end = " {}";
    return Layout(head, 0);
  }
  head.end = absl::StrCat(" : ", absl::StrJoin(initializers, ", "), " {}");
  std::string one_line = absl::StrCat(head.name, "(", absl::StrJoin(head.parameters, ", "), ")", head.end);
  if (Fits(one_line.size())) return absl::StrCat(one_line, "\n");
  head.end = "";
  const std::string list = absl::StrCat("    : ", absl::StrJoin(initializers, ", "), " {}");
  if (Fits(list.size())) return absl::StrCat(Layout(head, 0), list, "\n");
  return absl::StrCat(Layout(head, 0), "    : ", absl::StrJoin(initializers, ",\n      "), " {}\n");
}

std::string LayoutClassHead(absl::string_view head, absl::string_view base) {
  const std::string rest = absl::StrCat(": public ", base, " {\n");
  const bool fits = Fits(head.size() + rest.size());  // The newline is the space.
  return absl::StrCat(head, fits ? " " : "\n    ", rest);
}

std::string LayoutInitialization(absl::string_view left, absl::string_view right) {
  const bool fits = Fits(std::string_view("   = ;").size() + left.size() + right.size());
  return absl::StrCat("  ", left, " =", fits ? " " : "\n      ", right, ";\n");
}

}  // namespace ferry::codegen
