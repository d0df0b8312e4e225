// What the generator has found out about one .proto file, before it writes anything.
#ifndef FERRY_CODEGEN_MODEL_H_
#define FERRY_CODEGEN_MODEL_H_

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ferry/rpc/method.h"

namespace ferry::codegen {

// A Method is one method, with the names it has in C++. Names are unique within the service's classes.
struct Method {
  const google::protobuf::MethodDescriptor* descriptor = nullptr;
  // "package.Service/Method" and its id.
  std::string full_name;
  uint64_t id = 0;

  // Of the handler and of the stub's functions; of the coroutines on both sides; of the call-object handler;
  // of the stub's data member.
  std::string name;
  std::string coroutine_name;
  std::string start_name;
  std::string member_name;

  // The message classes, as they are written inside the service's classes.
  std::string request;
  std::string reply;

  bool client_streaming = false;
  bool server_streaming = false;
  bool unary() const { return !client_streaming && !server_streaming; }

  // From rpc/options.proto.
  bool run_inline = false;
  bool idempotent = false;
  int64_t timeout_us = 0;
  MethodRetry retry;
  bool deprecated = false;
};

// A Service is one service, with the names of what is generated for it. They are unique within the file's
// namespace.
struct Service {
  const google::protobuf::ServiceDescriptor* descriptor = nullptr;
  std::string service_class;
  std::string interface_class;
  std::string stub_class;
  // The array of ferry::MethodDescriptor.
  std::string methods_constant;
  bool deprecated = false;
  std::vector<Method> methods;
};

// A File is one .proto file. It refers to the descriptors it was made of.
struct File {
  const google::protobuf::FileDescriptor* descriptor = nullptr;
  // "a::b"; empty for a file without a package.
  std::string cpp_namespace;
  std::vector<Service> services;
};

}  // namespace ferry::codegen

#endif  // FERRY_CODEGEN_MODEL_H_
