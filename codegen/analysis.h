// Finds out what is to be generated for a .proto file, and whether it can be.
#ifndef FERRY_CODEGEN_ANALYSIS_H_
#define FERRY_CODEGEN_ANALYSIS_H_

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ferry/codegen/model.h"

namespace ferry::codegen {

// Computes the id of "package.Service/Method": ferry::MethodId, except in tests.
using MethodIdFunction = uint64_t (*)(const char* full_name);

// The model of `file`. Appends a line to `errors`, "FILE: Service.Method: what is wrong", for everything that
// no code can be generated for; the model is of no use then.
File Analyze(const google::protobuf::FileDescriptor& file, MethodIdFunction method_id,
             std::vector<std::string>& errors);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_ANALYSIS_H_
