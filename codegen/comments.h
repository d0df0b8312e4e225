// Comments of .proto files as comments of C++.
#ifndef FERRY_CODEGEN_COMMENTS_H_
#define FERRY_CODEGEN_COMMENTS_H_

#include <google/protobuf/descriptor.h>

#include <string>

#include "absl/strings/string_view.h"

namespace ferry::codegen {

// `text`, without its comment signs, as lines of `//` comments that begin in column `indent`. Empty for an
// empty text.
//
// Longer lines than generated code may have are broken between words. What would change the program or the
// compiler's opinion of it is defused: a backslash that ends a line, control characters, and characters that
// change the direction of text.
std::string CommentLines(absl::string_view text, int indent);

// What is written in the .proto before and beside a service or a method, as a text for CommentLines. Comments
// that stand apart from it, with an empty line between, are not its own.
template <typename AnyDescriptor>
std::string ProtoComment(const AnyDescriptor& descriptor);

// ProtoComment of what the parser has found.
std::string JoinComments(const google::protobuf::SourceLocation& location);

template <typename AnyDescriptor>
std::string ProtoComment(const AnyDescriptor& descriptor) {
  google::protobuf::SourceLocation location;
  return descriptor.GetSourceLocation(&location) ? JoinComments(location) : "";
}

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_COMMENTS_H_
