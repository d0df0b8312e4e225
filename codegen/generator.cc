#include "ferry/codegen/generator.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ferry/codegen/file_writer.h"

namespace ferry::codegen {
namespace {

using google::protobuf::FileDescriptor;
using google::protobuf::compiler::GeneratorContext;

void Write(const std::string& name, const std::string& text, GeneratorContext& context) {
  const std::unique_ptr<google::protobuf::io::ZeroCopyOutputStream> output(context.Open(name));
  google::protobuf::io::CodedOutputStream(output.get()).WriteString(text);
}

}  // namespace

bool Generator::Generate(const FileDescriptor* file, const std::string& parameter, GeneratorContext* context,
                         std::string* error) const {
  return GenerateAll({file}, parameter, context, error);
}

bool Generator::GenerateAll(const std::vector<const FileDescriptor*>& files, const std::string& parameter,
                            GeneratorContext* context, std::string* error) const {
  if (!parameter.empty()) {
    *error = absl::StrCat("unknown parameter '", parameter, "': protoc-gen-ferry takes none");
    return false;
  }
  std::vector<File> models;
  models.reserve(files.size());
  std::vector<std::string> errors;
  for (const FileDescriptor* file : files) models.push_back(Analyze(*file, method_id_, errors));
  if (!errors.empty()) {
    *error = absl::StrJoin(errors, "\n");
    return false;
  }
  for (const File& model : models) {
    Write(HeaderName(model), WriteHeader(model), *context);
    Write(SourceName(model), WriteSource(model), *context);
  }
  return true;
}

}  // namespace ferry::codegen
