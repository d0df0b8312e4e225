#include "ferry/codegen/names.h"

#include <google/protobuf/compiler/cpp/names.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace ferry::codegen {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FileDescriptor;

// Sorted.
constexpr absl::string_view kReservedWords[] = {
    "EOF",
    "NULL",
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "assert",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "errno",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "linux",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "union",
    "unix",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
};

void ReserveEnum(const EnumDescriptor& type, NameScope& scope) {
  const std::string name = google::protobuf::compiler::cpp::ClassName(&type);
  scope.Reserve(name);
  const std::string prefix = type.containing_type() == nullptr ? "" : absl::StrCat(name, "_");
  for (int i = 0; i < type.value_count(); ++i) {
    scope.Reserve(absl::StrCat(prefix, std::string(type.value(i)->name())));
  }
}

// A nested message is a class beside the one that holds it: Outer_Inner.
void ReserveMessage(const Descriptor& type, NameScope& scope) {
  scope.Reserve(google::protobuf::compiler::cpp::ClassName(&type));
  for (int i = 0; i < type.nested_type_count(); ++i) ReserveMessage(*type.nested_type(i), scope);
  for (int i = 0; i < type.enum_type_count(); ++i) ReserveEnum(*type.enum_type(i), scope);
}

void ReserveDeclarations(const FileDescriptor& file, NameScope& scope) {
  for (int i = 0; i < file.message_type_count(); ++i) ReserveMessage(*file.message_type(i), scope);
  for (int i = 0; i < file.enum_type_count(); ++i) ReserveEnum(*file.enum_type(i), scope);
  for (int i = 0; i < file.extension_count(); ++i) scope.Reserve(std::string(file.extension(i)->name()));
  if (!file.options().cc_generic_services()) return;
  for (int i = 0; i < file.service_count(); ++i) {
    const std::string name(file.service(i)->name());
    scope.Reserve(name);
    scope.Reserve(absl::StrCat(name, "_Stub"));
  }
}

void AddWithImports(const FileDescriptor& file, std::set<const FileDescriptor*>& files) {
  if (!files.insert(&file).second) return;
  for (int i = 0; i < file.dependency_count(); ++i) AddWithImports(*file.dependency(i), files);
}

// "c" if `inner` is "a.b.c.d" and `outer` is "a.b"; empty if it is not inside.
std::string NextPart(const std::string& outer, const std::string& inner) {
  const std::string prefix = outer.empty() ? "" : absl::StrCat(outer, ".");
  if (inner.size() <= prefix.size() || inner.compare(0, prefix.size(), prefix) != 0) return "";
  return inner.substr(prefix.size(), inner.find('.', prefix.size()) - prefix.size());
}

}  // namespace

bool IsReservedWord(absl::string_view name) {
  return std::binary_search(std::begin(kReservedWords), std::end(kReservedWords), name);
}

bool NameScope::IsFree(const std::string& name) const { return !IsReservedWord(name) && !Contains(name); }

std::string NameScope::Take(std::string name) {
  while (!IsFree(name)) name += '_';
  taken_.insert(name);
  return name;
}

std::string CppNamespace(const FileDescriptor& file) {
  const std::string& package = file.package();
  if (package.empty()) return "";
  std::vector<std::string> parts = absl::StrSplit(package, '.');
  for (std::string& part : parts) {
    if (IsReservedWord(part)) part += '_';
  }
  return absl::StrJoin(parts, "::");
}

NameScope NamesInNamespace(const FileDescriptor& file) {
  NameScope scope;
  std::set<const FileDescriptor*> files;
  AddWithImports(file, files);
  const std::string& package = file.package();
  for (const FileDescriptor* other : files) {
    const std::string other_package(other->package());
    if (other_package == package) ReserveDeclarations(*other, scope);
    const std::string inner = NextPart(package, other_package);
    if (!inner.empty()) scope.Reserve(inner);
  }
  return scope;
}

std::string SnakeCase(absl::string_view name) {
  std::string snake;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool after_lower = i > 0 && (absl::ascii_islower(name[i - 1]) || absl::ascii_isdigit(name[i - 1]));
    const bool before_lower = i > 0 && i + 1 < name.size() && absl::ascii_islower(name[i + 1]);
    const bool starts_word = absl::ascii_isupper(name[i]) && (after_lower || before_lower);
    if (starts_word && snake.back() != '_') snake += '_';
    snake += absl::ascii_tolower(name[i]);
  }
  return snake;
}

}  // namespace ferry::codegen
