// The protoc plugin, apart from its main function.
#ifndef FERRY_CODEGEN_GENERATOR_H_
#define FERRY_CODEGEN_GENERATOR_H_

#include <google/protobuf/compiler/code_generator.h>
#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ferry/codegen/analysis.h"
#include "ferry/rpc/method.h"

namespace ferry::codegen {

// A Generator writes NAME.ferry.h and NAME.ferry.cc for each NAME.proto. It takes no parameters.
//
// If anything is wrong with any of the files it writes nothing and says everything that is wrong, in lines of
// the form "FILE: Service.Method: what is wrong".
class Generator final : public google::protobuf::compiler::CodeGenerator {
 public:
  // Tests inject `method_id` to make ids collide.
  explicit Generator(MethodIdFunction method_id = &MethodId) : method_id_(method_id) {}

  bool Generate(const google::protobuf::FileDescriptor* file, const std::string& parameter,
                google::protobuf::compiler::GeneratorContext* context, std::string* error) const override;

  bool GenerateAll(const std::vector<const google::protobuf::FileDescriptor*>& files,
                   const std::string& parameter, google::protobuf::compiler::GeneratorContext* context,
                   std::string* error) const override;

  uint64_t GetSupportedFeatures() const override { return FEATURE_PROTO3_OPTIONAL; }

 private:
  const MethodIdFunction method_id_;
};

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_GENERATOR_H_
