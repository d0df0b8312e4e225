// Writes the client's side of a service.
#ifndef FERRY_CODEGEN_STUB_WRITER_H_
#define FERRY_CODEGEN_STUB_WRITER_H_

#include <string>

#include "ferry/codegen/model.h"

namespace ferry::codegen {

// The declaration of what application code takes as a parameter, for the header.
std::string DeclareStubInterface(const Service& service);

// The declaration of the stub, for the header.
std::string DeclareStub(const Service& service);

// The definitions of both classes' functions.
std::string DefineStubInterface(const Service& service);
std::string DefineStub(const Service& service);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_STUB_WRITER_H_
