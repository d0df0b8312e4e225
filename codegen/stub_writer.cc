#include "ferry/codegen/stub_writer.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/substitute.h"
#include "ferry/codegen/comments.h"
#include "ferry/codegen/format.h"

namespace ferry::codegen {
namespace {

// The forms of a method, in the order of their declarations.
enum class Form { kBlockingReused, kBlocking, kCallback, kCallbackReused, kCoroutine, kStream };

std::vector<Form> FormsOf(const Method& method) {
  if (!method.unary()) return {Form::kStream};
  return {Form::kBlockingReused, Form::kBlocking, Form::kCallback, Form::kCallbackReused, Form::kCoroutine};
}

// The form that fakes implement.
bool IsPure(Form form) { return form == Form::kBlockingReused || form == Form::kStream; }

bool TakesReply(Form form) { return form == Form::kBlockingReused || form == Form::kCallbackReused; }
bool TakesCallback(Form form) { return form == Form::kCallback || form == Form::kCallbackReused; }

// Where a signature stands: only a declaration has default arguments.
enum class Place { kDeclaration, kDefinition };

// The class of what a method with streams returns.
std::string StreamClass(const Method& method) {
  if (method.client_streaming) {
    return absl::StrCat(method.server_streaming ? "::ferry::BidiStream<" : "::ferry::ClientStream<",
                        method.request, ", ", method.reply, ">");
  }
  return absl::StrCat("::ferry::ServerStream<", method.reply, ">");
}

const char* MemberClass(const Method& method) {
  if (method.client_streaming && method.server_streaming) return "::ferry::BidiStreamingMethod";
  if (method.client_streaming) return "::ferry::ClientStreamingMethod";
  return method.server_streaming ? "::ferry::ServerStreamingMethod" : "::ferry::ClientMethod";
}

std::string Result(const Method& method, Form form) {
  switch (form) {
    case Form::kStream:
      return StreamClass(method);
    case Form::kBlockingReused:
      return "::absl::Status";
    case Form::kBlocking:
      return absl::StrCat("::absl::StatusOr<", method.reply, ">");
    case Form::kCoroutine:
      return absl::StrCat("::ferry::Task<::absl::StatusOr<", method.reply, ">>");
    case Form::kCallback:
    case Form::kCallbackReused:
      break;
  }
  return "void";
}

const std::string& FormName(const Method& method, Form form) {
  return form == Form::kCoroutine ? method.coroutine_name : method.name;
}

Signature FormSignature(const Method& method, Form form, Place place) {
  Signature signature = {
      .result = Result(method, form), .name = FormName(method, form), .parameters = {}, .end = ""};
  if (!method.client_streaming) {
    signature.parameters.push_back(absl::StrCat("const ", method.request, "& request"));
  }
  if (TakesReply(form)) signature.parameters.push_back(absl::StrCat(method.reply, "& reply"));
  const bool optional = place == Place::kDeclaration && !TakesCallback(form);
  signature.parameters.push_back(
      absl::StrCat("const ::ferry::CallOptions& options", optional ? " = {}" : ""));
  if (form == Form::kCallback) {
    signature.parameters.push_back(absl::StrCat("::ferry::ReplyCallback<", method.reply, "> done"));
  } else if (form == Form::kCallbackReused) {
    signature.parameters.push_back("::ferry::StatusCallback done");
  }
  return signature;
}

std::string DeclareForm(const Method& method, Form form, absl::string_view before, absl::string_view end) {
  Signature signature = FormSignature(method, form, Place::kDeclaration);
  signature.result = absl::StrCat(method.deprecated ? "[[deprecated]] " : "", before, signature.result);
  signature.end = std::string(end);
  return Layout(signature, 2);
}

std::string DefineForm(absl::string_view class_name, const Method& method, Form form,
                       absl::string_view body) {
  Signature signature = FormSignature(method, form, Place::kDefinition);
  signature.name = absl::StrCat(class_name, "::", signature.name);
  signature.end = " {";
  return absl::StrCat("\n", Layout(signature, 0), body, "}\n");
}

// What the interface does for the form, on top of the one that fakes implement.
std::string DefaultBody(const Method& method, Form form) {
  switch (form) {
    case Form::kBlockingReused:
    case Form::kStream:
      return "";
    case Form::kBlocking:
      return absl::Substitute(
          "  $0 reply;\n"
          "  ::absl::Status status = this->$1(request, reply, options);\n"
          "  if (!status.ok()) return status;\n"
          "  return reply;\n",
          method.reply, method.name);
    case Form::kCallback:
      return absl::Substitute("  ::std::move(done)(this->$0(request, options));\n", method.name);
    case Form::kCoroutine:
      return absl::Substitute("  return ::ferry::TaskOf(this->$0(request, options));\n", method.name);
    case Form::kCallbackReused:
      break;
  }
  return absl::Substitute("  ::std::move(done)(this->$0(request, reply, options));\n", method.name);
}

std::string ForwardingBody(const Method& method, Form form) {
  return absl::Substitute("  $0$1.$5($2$3options$4);\n", TakesCallback(form) ? "" : "return ",
                          method.member_name, method.client_streaming ? "" : "request, ",
                          TakesReply(form) ? "reply, " : "", TakesCallback(form) ? ", ::std::move(done)" : "",
                          form == Form::kCoroutine ? "CallTask" : "Call");
}

std::string InterfaceComment(const Service& service) {
  const std::string own = ProtoComment(*service.descriptor);
  std::string text = absl::Substitute(
      "$0$1$2 is the client's side of $3. Take it as a parameter where you make calls, so that tests can "
      "pass a fake. "
      "A method comes in five forms: blocking or with a callback, with a fresh reply or into yours, and for "
      "coroutines, with Co before its name.",
      own, own.empty() ? "" : "\n\n", service.interface_class, std::string(service.descriptor->full_name()));
  const auto unary = std::find_if(service.methods.begin(), service.methods.end(),
                                  [](const Method& method) { return method.unary(); });
  if (std::any_of(service.methods.begin(), service.methods.end(),
                  [](const Method& method) { return !method.unary(); })) {
    absl::StrAppend(&text, " One with streams returns what they are read and written with.");
  }
  if (unary != service.methods.end()) {
    absl::SubstituteAndAppend(&text,
                              "\n\nA fake overrides the pure form, on which the others are built, and brings "
                              "these back into sight with "
                              "`using $0::$1;`. Its callbacks run before the call returns.",
                              service.interface_class, unary->name);
  }
  return CommentLines(text, 0);
}

std::string ClassName(const Service& service, absl::string_view name) {
  return absl::StrCat("class ", service.deprecated ? "[[deprecated]] " : "", name);
}

}  // namespace

std::string DeclareStubInterface(const Service& service) {
  std::string out = absl::StrCat("\n", InterfaceComment(service), ClassName(service, service.interface_class),
                                 " {\n public:\n  virtual ~", service.interface_class, "() = default;\n");
  for (const Method& method : service.methods) {
    absl::StrAppend(&out, "\n", CommentLines(ProtoComment(*method.descriptor), 2));
    for (Form form : FormsOf(method)) {
      absl::StrAppend(&out, DeclareForm(method, form, "virtual ", IsPure(form) ? " = 0;" : ";"));
    }
  }
  return absl::StrCat(out, "};\n");
}

std::string DeclareStub(const Service& service) {
  const std::string comment = CommentLines(
      absl::Substitute(
          "$0 calls $1 over a channel, which must outlive it. A value, cheap to copy. Thread-safe.",
          service.stub_class, std::string(service.descriptor->full_name())),
      0);
  std::string out =
      absl::StrCat("\n", comment,
                   LayoutClassHead(ClassName(service, absl::StrCat(service.stub_class, " final")),
                                   service.interface_class),
                   " public:\n  explicit ", service.stub_class, "(::ferry::Channel& channel);\n");
  for (const Method& method : service.methods) {
    absl::StrAppend(&out, "\n");
    for (Form form : FormsOf(method)) absl::StrAppend(&out, DeclareForm(method, form, "", " override;"));
  }
  if (!service.methods.empty()) absl::StrAppend(&out, "\n private:\n");
  for (const Method& method : service.methods) {
    absl::StrAppend(&out,
                    LayoutMember(MemberClass(method), method.request, method.reply, method.member_name, 2));
  }
  return absl::StrCat(out, "};\n");
}

std::string DefineStubInterface(const Service& service) {
  std::string out;
  for (const Method& method : service.methods) {
    for (Form form : FormsOf(method)) {
      if (IsPure(form)) continue;
      absl::StrAppend(&out, DefineForm(service.interface_class, method, form, DefaultBody(method, form)));
    }
  }
  return out;
}

std::string DefineStub(const Service& service) {
  std::vector<std::string> initializers;
  for (size_t i = 0; i < service.methods.size(); ++i) {
    initializers.push_back(
        absl::Substitute("$0(channel, $1[$2])", service.methods[i].member_name, service.methods_constant, i));
  }
  const Signature constructor = {
      .result = "",
      .name = absl::StrCat(service.stub_class, "::", service.stub_class),
      .parameters = {absl::StrCat("::ferry::Channel& ", initializers.empty() ? "/*channel*/" : "channel")},
      .end = ""};
  std::string out = absl::StrCat("\n", LayoutConstructor(constructor, initializers));
  for (const Method& method : service.methods) {
    for (Form form : FormsOf(method)) {
      absl::StrAppend(&out, DefineForm(service.stub_class, method, form, ForwardingBody(method, form)));
    }
  }
  return out;
}

}  // namespace ferry::codegen
