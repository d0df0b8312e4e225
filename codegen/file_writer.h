// Writes the two generated files of a .proto file.
#ifndef FERRY_CODEGEN_FILE_WRITER_H_
#define FERRY_CODEGEN_FILE_WRITER_H_

#include <string>

#include "ferry/codegen/model.h"

namespace ferry::codegen {

// "a/greeter.ferry.h" and "a/greeter.ferry.cc" for "a/greeter.proto".
std::string HeaderName(const File& file);
std::string SourceName(const File& file);

// Their texts. The same model gives the same bytes.
std::string WriteHeader(const File& file);
std::string WriteSource(const File& file);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_FILE_WRITER_H_
