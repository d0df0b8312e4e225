#include "ferry/codegen/analysis.h"

#include <google/protobuf/compiler/cpp/names.h>
#include <google/protobuf/descriptor.pb.h>

#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ferry/codegen/method_options.h"
#include "ferry/codegen/names.h"

namespace ferry::codegen {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

// "Service.Method", for errors.
std::string ShortName(const Method& method) {
  return absl::StrCat(std::string(method.descriptor->service()->name()), ".",
                      std::string(method.descriptor->name()));
}

std::string Error(const Method& method, absl::string_view what) {
  return absl::StrCat(std::string(method.descriptor->file()->name()), ": ", ShortName(method), ": ", what);
}

// Names that a method of the service's classes cannot have: the classes' own (it would be a constructor), and
// what they inherit.
NameScope ReservedInClasses(const Service& service) {
  NameScope scope;
  scope.Reserve(service.service_class);
  scope.Reserve(service.interface_class);
  scope.Reserve(service.stub_class);
  scope.Reserve(service.methods_constant);
  scope.Reserve("Service");
  scope.Reserve("ferry_methods");
  return scope;
}

// Methods keep their names where they can, whatever their order; then those that cannot, then the derived
// names, take what is free. The scope is left with every name in it.
void NameMethods(std::vector<Method>& methods, NameScope& scope) {
  for (Method& method : methods) {
    const std::string name(method.descriptor->name());
    if (scope.IsFree(name)) method.name = scope.Take(name);
  }
  for (Method& method : methods) {
    if (method.name.empty()) method.name = scope.Take(std::string(method.descriptor->name()));
  }
  for (Method& method : methods) {
    method.start_name = scope.Take(absl::StrCat("Start", method.name));
    method.coroutine_name = scope.Take(absl::StrCat("Co", method.name));
  }
  for (Method& method : methods) {
    method.member_name = scope.Take(absl::StrCat(SnakeCase(std::string(method.descriptor->name())), "_"));
  }
}

// The names that hide a message class of that name from some place where it is needed: those of the classes'
// members, and of parameters.
NameScope HidingNames(const NameScope& class_scope) {
  NameScope scope = class_scope;
  for (const char* parameter : {"call", "channel", "context", "done", "options", "replies", "reply",
                                "request", "requests", "status", "task"}) {
    scope.Reserve(parameter);
  }
  return scope;
}

// The class of `message` as the classes of a service of `file` can call it: by its short name if it lives in
// the same namespace and nothing hides it there.
std::string MessageClass(const Descriptor& message, const FileDescriptor& file, const NameScope& hidden) {
  std::string name = google::protobuf::compiler::cpp::ClassName(&message);
  const bool same_namespace = std::string(message.file()->package()) == std::string(file.package());
  if (same_namespace && !hidden.Contains(name)) return name;
  return google::protobuf::compiler::cpp::QualifiedClassName(&message);
}

Method MakeMethod(const MethodDescriptor& descriptor, MethodIdFunction method_id,
                  std::vector<std::string>& errors) {
  Method method;
  method.descriptor = &descriptor;
  method.full_name =
      absl::StrCat(std::string(descriptor.service()->full_name()), "/", std::string(descriptor.name()));
  method.id = method_id(method.full_name.c_str());
  method.client_streaming = descriptor.client_streaming();
  method.server_streaming = descriptor.server_streaming();
  const absl::Status status = ReadOptions(method);
  if (!status.ok()) errors.push_back(Error(method, status.message()));
  return method;
}

Service MakeService(const ServiceDescriptor& descriptor, NameScope& file_scope, MethodIdFunction method_id,
                    std::vector<std::string>& errors) {
  const std::string name(descriptor.name());
  Service service;
  service.descriptor = &descriptor;
  service.service_class = file_scope.Take(absl::StrCat(name, "Service"));
  service.interface_class = file_scope.Take(absl::StrCat(name, "StubInterface"));
  service.stub_class = file_scope.Take(absl::StrCat(name, "Stub"));
  service.methods_constant = file_scope.Take(absl::StrCat("k", name, "Methods"));
  service.deprecated = descriptor.options().deprecated();
  for (int i = 0; i < descriptor.method_count(); ++i) {
    service.methods.push_back(MakeMethod(*descriptor.method(i), method_id, errors));
  }
  NameScope class_scope = ReservedInClasses(service);
  NameMethods(service.methods, class_scope);
  const NameScope hidden = HidingNames(class_scope);
  for (Method& method : service.methods) {
    method.request = MessageClass(*method.descriptor->input_type(), *descriptor.file(), hidden);
    method.reply = MessageClass(*method.descriptor->output_type(), *descriptor.file(), hidden);
  }
  return service;
}

void CheckIds(const File& file, std::vector<std::string>& errors) {
  std::map<uint64_t, const Method*> seen;
  for (const Service& service : file.services) {
    for (const Method& method : service.methods) {
      const auto [other, added] = seen.emplace(method.id, &method);
      if (added) continue;
      errors.push_back(
          Error(method, absl::StrFormat("method id 0x%016x is also that of %s; rename one of them", method.id,
                                        ShortName(*other->second))));
    }
  }
}

}  // namespace

File Analyze(const FileDescriptor& descriptor, MethodIdFunction method_id, std::vector<std::string>& errors) {
  File file;
  file.descriptor = &descriptor;
  file.cpp_namespace = CppNamespace(descriptor);
  NameScope scope = NamesInNamespace(descriptor);
  for (int i = 0; i < descriptor.service_count(); ++i) {
    file.services.push_back(MakeService(*descriptor.service(i), scope, method_id, errors));
  }
  CheckIds(file, errors);
  return file;
}

}  // namespace ferry::codegen
