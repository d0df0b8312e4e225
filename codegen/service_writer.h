// Writes the server's side of a service.
#ifndef FERRY_CODEGEN_SERVICE_WRITER_H_
#define FERRY_CODEGEN_SERVICE_WRITER_H_

#include <string>

#include "ferry/codegen/model.h"

namespace ferry::codegen {

// The declaration of the skeleton, for the header.
std::string DeclareService(const Service& service);

// The constants that both sides refer to, for an unnamed namespace. Empty for a service without methods.
std::string DefineMethodDescriptors(const Service& service);

// The definitions of the skeleton's functions.
std::string DefineService(const Service& service);

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_SERVICE_WRITER_H_
