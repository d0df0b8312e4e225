// What generated server skeletons derive from.
#ifndef FERRY_RPC_SERVICE_H_
#define FERRY_RPC_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/server_call.h"

namespace ferry {

class Service;

// A ServerMethod is how a server runs one method: generated, constant.
struct ServerMethod {
  const MethodDescriptor* descriptor;
  // Makes a call object with empty messages of the method's types.
  std::unique_ptr<ServerCall> (*new_call)();
  // Hands a call whose request is parsed to the handler, which will end it.
  void (*start)(Service& service, ServerCall& call);
};

// A Service is one service's handlers: the base of every generated skeleton.
//
// Handlers run on several threads at once, so a service is Thread-safe. It must outlive the servers it is
// registered with.
class Service {
 public:
  virtual ~Service() = default;

  // The methods, for Server::Register. Generated. Valid for as long as the program runs.
  virtual absl::Span<const ServerMethod> ferry_methods() const = 0;
};

// What a handler that was not overridden answers.
absl::Status UnimplementedMethod(const MethodDescriptor& method);

// What UnaryServerMethod needs to know of a handler.
template <typename Handler>
struct UnaryHandlerTraits;

template <typename S, typename Request, typename Reply>
struct UnaryHandlerTraits<void (S::*)(UnaryCall<Request, Reply>)> {
  using ServiceType = S;
  using CallType = UnaryServerCall<Request, Reply>;
};

// The ServerMethod of a unary method whose call-object handler is kStart, a `void (S::*)(UnaryCall<Request,
// Reply>)`.
template <auto kStart>
constexpr ServerMethod UnaryServerMethod(const MethodDescriptor& descriptor) {
  using Traits = UnaryHandlerTraits<decltype(kStart)>;
  using Call = typename Traits::CallType;
  return ServerMethod{
      .descriptor = &descriptor,
      .new_call = []() -> std::unique_ptr<ServerCall> { return std::make_unique<Call>(); },
      .start =
          [](Service& service, ServerCall& call) {
            (static_cast<typename Traits::ServiceType&>(service).*kStart)(static_cast<Call&>(call).Handle());
          },
  };
}

}  // namespace ferry

#endif  // FERRY_RPC_SERVICE_H_
