// Lays generated code out as clang-format does with the project's .clang-format, so that it need not be run.
#ifndef FERRY_CODEGEN_FORMAT_H_
#define FERRY_CODEGEN_FORMAT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ferry::codegen {

// The widest line.
inline constexpr size_t kColumnLimit = 110;

inline bool Fits(size_t columns) { return columns <= kColumnLimit; }

// A Signature is a function's declaration, or its definition up to the body, in pieces.
struct Signature {
  // "virtual ::absl::Status"; empty for a constructor.
  std::string result;
  // "Greet" or "GreeterStub::Greet".
  std::string name;
  // "const GreetRequest& request".
  std::vector<std::string> parameters;
  // What follows the closing parenthesis: ";", " = 0;", " override;" or " {".
  std::string end;
};

// `signature` as lines that begin in column `indent`.
std::string Layout(const Signature& signature, int indent);

// A data member, `type<first, second> name;`, as lines that begin in column `indent`.
std::string LayoutMember(absl::string_view type, absl::string_view first, absl::string_view second,
                         absl::string_view name, int indent);

// A constructor's definition with nothing in its body: `signature : initializers {}`.
std::string LayoutConstructor(const Signature& signature, const std::vector<std::string>& initializers);

// The first lines of a class: `head : public base {`.
std::string LayoutClassHead(absl::string_view head, absl::string_view base);

// A variable of a function's body: `left = right;`.
std::string LayoutInitialization(absl::string_view left, absl::string_view right);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_FORMAT_H_
