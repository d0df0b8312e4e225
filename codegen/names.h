// The C++ names that generated code declares, and those it must keep clear of.
#ifndef FERRY_CODEGEN_NAMES_H_
#define FERRY_CODEGEN_NAMES_H_

#include <google/protobuf/descriptor.h>

#include <set>
#include <string>

#include "absl/strings/string_view.h"

namespace ferry::codegen {

// Whether a program cannot declare `name`: a keyword or an operator's name of C++20, or a macro of the C
// library that most programs have.
bool IsReservedWord(absl::string_view name);

// A NameScope is the set of names in one C++ scope. It hands out names that are still free.
//
// Thread-compatible. A value.
class NameScope {
 public:
  // Takes `name`, whether it is free or not.
  void Reserve(std::string name) { taken_.insert(std::move(name)); }

  // Takes `name` with as few `_` appended, possibly none, as make it free, and returns it.
  std::string Take(std::string name);

  // Whether Take(name) would return it as it is.
  bool IsFree(const std::string& name) const;

  bool Contains(const std::string& name) const { return taken_.count(name) > 0; }

 private:
  std::set<std::string> taken_;
};

// The namespace of a file's C++ declarations, as "a::b"; empty for a file without a package. A part that is a
// reserved word has a `_` appended.
std::string CppNamespace(const google::protobuf::FileDescriptor& file);

// What is known to be declared in the namespace of `file` by it and by the files it imports, directly or not:
// messages, enums, extensions and further namespaces.
NameScope NamesInNamespace(const google::protobuf::FileDescriptor& file);

// "greet_later" for "GreetLater" and "get_http_url" for "GetHTTPUrl".
std::string SnakeCase(absl::string_view name);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_NAMES_H_
