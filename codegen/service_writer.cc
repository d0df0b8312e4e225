#include "ferry/codegen/service_writer.h"

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/substitute.h"
#include "ferry/codegen/comments.h"
#include "ferry/codegen/format.h"

namespace ferry::codegen {
namespace {

std::string ClassComment(const Service& service) {
  const std::string own = ProtoComment(*service.descriptor);
  return CommentLines(
      absl::Substitute(
          "$0$1$2 is the server's side of $3: override the handlers and register it with a ferry::Server. "
          "Handlers run on several threads at once. What is not overridden answers UNIMPLEMENTED.",
          own, own.empty() ? "" : "\n\n", service.service_class,
          std::string(service.descriptor->full_name())),
      0);
}

// The types and names of the handler's parameters behind the context.
struct Parameter {
  std::string type;
  const char* name;
};

std::vector<Parameter> HandlerParameters(const Method& method) {
  return {
      method.client_streaming
          ? Parameter{absl::StrCat("::ferry::StreamReader<", method.request, ">&"), "requests"}
          : Parameter{absl::StrCat("const ", method.request, "&"), "request"},
      method.server_streaming
          ? Parameter{absl::StrCat("::ferry::StreamWriter<", method.reply, ">&"), "replies"}
          : Parameter{absl::StrCat(method.reply, "&"), "reply"},
  };
}

bool IsStream(const Parameter& parameter) {
  const absl::string_view name = parameter.name;
  return name == "requests" || name == "replies";
}

// The type of a stream itself, instead of that of a reference to it.
std::string ValueType(const Parameter& parameter) {
  return IsStream(parameter) ? parameter.type.substr(0, parameter.type.size() - 1) : parameter.type;
}

const char* CallClass(const Method& method) {
  if (method.client_streaming && method.server_streaming) return "::ferry::BidiStreamingCall";
  if (method.client_streaming) return "::ferry::ClientStreamingCall";
  return method.server_streaming ? "::ferry::ServerStreamingCall" : "::ferry::UnaryCall";
}

Signature Handler(const Method& method) {
  Signature signature = {.result = "virtual ::absl::Status",
                         .name = method.name,
                         .parameters = {"::ferry::ServerContext& context"},
                         .end = ";"};
  for (const Parameter& parameter : HandlerParameters(method)) {
    signature.parameters.push_back(absl::StrCat(parameter.type, " ", parameter.name));
  }
  return signature;
}

// Streams go by value, for a coroutine keeps its parameters.
Signature CoroutineHandler(const Method& method) {
  Signature signature = {.result = "virtual ::ferry::Task<::absl::Status>",
                         .name = method.coroutine_name,
                         .parameters = {"::ferry::ServerContext& context"},
                         .end = ";"};
  for (const Parameter& parameter : HandlerParameters(method)) {
    signature.parameters.push_back(absl::StrCat(ValueType(parameter), " ", parameter.name));
  }
  return signature;
}

Signature StartHandler(const Method& method) {
  return {.result = "virtual void",
          .name = method.start_name,
          .parameters = {absl::StrCat(CallClass(method), "<", method.request, ", ", method.reply, "> call")},
          .end = ";"};
}

std::string FullNameField(absl::string_view name) {
  std::string line = absl::StrCat("        .full_name = \"", name, "\",\n");
  if (Fits(line.size() - 1)) return line;
  std::string below = absl::StrCat("            \"", name, "\",\n");
  if (Fits(below.size() - 1)) return absl::StrCat("        .full_name =\n", below);
  const size_t method = name.find('/') + 1;
  const std::string first = absl::StrCat("\"", name.substr(0, method), "\"\n");
  const std::string second = absl::StrCat("\"", name.substr(method), "\",\n");
  const std::string begin = "        .full_name =";
  if (!Fits(begin.size() + first.size())) {  // The newline is the space.
    return absl::StrCat(begin, "\n            ", first, "            ", second);
  }
  return absl::StrCat(begin, " ", first, std::string(begin.size() + 1, ' '), second);
}

// A method's retry policy, as a field of its descriptor: on one line if it fits, as clang-format has it.
std::string RetryField(const MethodRetry& retry) {
  if (retry == MethodRetry()) return "";
  std::vector<std::string> fields;
  if (retry.max_attempts != 0) fields.push_back(absl::StrCat(".max_attempts = ", retry.max_attempts));
  const auto add = [&fields](const char* name, int64_t value) {
    if (value != 0) fields.push_back(absl::StrCat(".", name, " = ", value));
  };
  add("initial_backoff_us", retry.initial_backoff_us);
  add("max_backoff_us", retry.max_backoff_us);
  add("hedge_delay_us", retry.hedge_delay_us);
  const std::string begin = "        .retry = {";
  std::string line = absl::StrCat(begin, absl::StrJoin(fields, ", "), "},\n");
  if (Fits(line.size() - 1)) return line;
  return absl::StrCat(begin, absl::StrJoin(fields, absl::StrCat(",\n", std::string(begin.size(), ' '))),
                      "},\n");
}

// A method, for the array of descriptors.
std::string DescriptorEntry(const Method& method) {
  std::string out =
      absl::StrFormat("    {\n%s        .id = 0x%016x,\n", FullNameField(method.full_name), method.id);
  if (method.run_inline) absl::StrAppend(&out, "        .run_inline = true,\n");
  if (method.idempotent) absl::StrAppend(&out, "        .idempotent = true,\n");
  if (method.timeout_us != 0) absl::StrAppend(&out, "        .timeout_us = ", method.timeout_us, ",\n");
  if (method.client_streaming) absl::StrAppend(&out, "        .client_streaming = true,\n");
  if (method.server_streaming) absl::StrAppend(&out, "        .server_streaming = true,\n");
  absl::StrAppend(&out, RetryField(method.retry));
  return absl::StrCat(out, "    },\n");
}

// The runtime has to agree with the generator about ids.
std::string AssertId(const Service& service, size_t i) {
  const std::string begin = absl::Substitute("static_assert($0[$1].id ==", service.methods_constant, i);
  const std::string end =
      absl::Substitute("::ferry::MethodId($0[$1].full_name));\n", service.methods_constant, i);
  const bool fits = Fits(begin.size() + end.size());  // The newline is the space.
  return absl::StrCat(begin, fits ? " " : "\n              ", end);
}

// The handlers that answer UNIMPLEMENTED: there is no coroutine, and the other says so.
std::string DefineHandlers(const Service& service, size_t i) {
  const Method& method = service.methods[i];
  Signature signature = {.result = "::absl::Status",
                         .name = absl::StrCat(service.service_class, "::", method.name),
                         .parameters = {"::ferry::ServerContext& /*context*/"},
                         .end = " {"};
  Signature coroutine = signature;
  coroutine.result = "::ferry::Task<::absl::Status>";
  coroutine.name = absl::StrCat(service.service_class, "::", method.coroutine_name);
  for (const Parameter& parameter : HandlerParameters(method)) {
    signature.parameters.push_back(absl::StrCat(parameter.type, " /*", parameter.name, "*/"));
    coroutine.parameters.push_back(absl::StrCat(ValueType(parameter), " /*", parameter.name, "*/"));
  }
  return absl::Substitute(
      "\n"
      "$0"
      "  return ::ferry::UnimplementedMethod($1[$2]);\n"
      "}\n"
      "\n"
      "$3"
      "  return {};\n"
      "}\n",
      Layout(signature, 0), service.methods_constant, i, Layout(coroutine, 0));
}

std::string DefineStartHandler(const Service& service, const Method& method) {
  Signature signature = StartHandler(method);
  signature.result = "void";
  signature.name = absl::StrCat(service.service_class, "::", method.start_name);
  signature.end = " {";
  std::string streams;
  std::string arguments = "call.context()";
  for (const Parameter& parameter : HandlerParameters(method)) {
    const std::string name = parameter.name;
    if (IsStream(parameter)) {
      absl::StrAppend(&streams, LayoutInitialization(absl::StrCat(ValueType(parameter), " ", name),
                                                     absl::StrCat("call.", name, "()")));
    }
    absl::StrAppend(&arguments, ", ", IsStream(parameter) ? name : absl::StrCat("call.", name, "()"));
  }
  return absl::Substitute(
      "\n"
      "$0"
      "$1"
      "$2"
      "  if (task) return ::ferry::FinishWhenDone(::std::move(task), ::std::move(call));\n"
      "$3"
      "  ::std::move(call).Finish(::std::move(status));\n"
      "}\n",
      Layout(signature, 0), streams,
      LayoutInitialization("::ferry::Task<::absl::Status> task",
                           absl::StrCat("this->", method.coroutine_name, "(", arguments, ")")),
      LayoutInitialization("::absl::Status status",
                           absl::StrCat("this->", method.name, "(", arguments, ")")));
}

// One element of the array of ServerMethods.
std::string ServerMethodEntry(const Service& service, size_t i) {
  const std::string handler = absl::StrCat("&", service.service_class, "::", service.methods[i].start_name);
  const std::string line = absl::StrCat("      ::ferry::HandlerMethod<", handler, ">(");
  const std::string argument = absl::StrCat(service.methods_constant, "[", i, "]),\n");
  if (Fits(line.size() + argument.size() - 1)) return absl::StrCat(line, argument);
  if (Fits(line.size())) return absl::StrCat(line, "\n          ", argument);
  return absl::StrCat("      ::ferry::HandlerMethod<\n          ", handler, ">(\n          ", argument);
}

std::string DefineMethods(const Service& service) {
  const std::string head = absl::StrCat("::absl::Span<const ::ferry::ServerMethod> ", service.service_class,
                                        "::ferry_methods() const {");
  if (service.methods.empty()) {
    const std::string one_line = absl::StrCat(head, " return {}; }");
    return absl::StrCat("\n", Fits(one_line.size()) ? one_line : absl::StrCat(head, "\n  return {};\n}"),
                        "\n");
  }
  std::string out =
      absl::StrCat("\n", head, "\n  static constexpr ::ferry::ServerMethod kServerMethods[] = {\n");
  for (size_t i = 0; i < service.methods.size(); ++i) absl::StrAppend(&out, ServerMethodEntry(service, i));
  return absl::StrCat(out, "  };\n  return kServerMethods;\n}\n");
}

}  // namespace

std::string DeclareService(const Service& service) {
  std::string out = absl::Substitute(
      "\n"
      "$0"
      "class $1 : public ::ferry::Service {\n"
      " public:\n",
      ClassComment(service), service.service_class);
  for (const Method& method : service.methods) {
    absl::StrAppend(&out, CommentLines(ProtoComment(*method.descriptor), 2), Layout(Handler(method), 2));
    const std::string instead = absl::StrCat("Override this instead of ", method.name);
    absl::StrAppend(&out, CommentLines(absl::StrCat(instead, " to wait without keeping a thread."), 2),
                    Layout(CoroutineHandler(method), 2),
                    CommentLines(absl::StrCat(instead, " to finish calls later, or on another thread."), 2),
                    Layout(StartHandler(method), 2), "\n");
  }
  return absl::StrCat(out,
                      "  ::absl::Span<const ::ferry::ServerMethod> ferry_methods() const override;\n"
                      "};\n");
}

std::string DefineMethodDescriptors(const Service& service) {
  if (service.methods.empty()) return "";
  std::string out =
      absl::StrCat("\nconstexpr ::ferry::MethodDescriptor ", service.methods_constant, "[] = {\n");
  for (const Method& method : service.methods) absl::StrAppend(&out, DescriptorEntry(method));
  absl::StrAppend(&out, "};\n");
  for (size_t i = 0; i < service.methods.size(); ++i) absl::StrAppend(&out, AssertId(service, i));
  return out;
}

std::string DefineService(const Service& service) {
  std::string out;
  for (size_t i = 0; i < service.methods.size(); ++i) {
    absl::StrAppend(&out, DefineHandlers(service, i), DefineStartHandler(service, service.methods[i]));
  }
  return absl::StrCat(out, DefineMethods(service));
}

}  // namespace ferry::codegen
