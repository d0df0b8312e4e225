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
// registered with, unless they own it.
class Service {
 public:
  virtual ~Service() = default;

  // The methods, for Server::Register. Generated. Valid for as long as the program runs.
  virtual absl::Span<const ServerMethod> ferry_methods() const = 0;
};

// What a handler that was not overridden answers.
absl::Status UnimplementedMethod(const MethodDescriptor& method);

// What HandlerMethod needs to know of a handler.
template <typename Handler>
struct HandlerTraits;

template <typename S, typename Call>
struct HandlerTraits<void (S::*)(Call)> {
  using ServiceType = S;
  using CallType = Call;
};

// The ServerMethod of a method whose call-object handler is kStart, a `void (S::*)(Call)` with one of the
// kinds of CallHandle.
template <auto kStart>
constexpr ServerMethod HandlerMethod(const MethodDescriptor& descriptor) {
  using Traits = HandlerTraits<decltype(kStart)>;
  using Call = typename Traits::CallType;
  using Served = TypedServerCall<typename Call::Request, typename Call::Reply>;
  return ServerMethod{
      .descriptor = &descriptor,
      .new_call = []() -> std::unique_ptr<ServerCall> { return std::make_unique<Served>(Call::kKind); },
      .start =
          [](Service& service, ServerCall& call) {
            (static_cast<typename Traits::ServiceType&>(service).*kStart)(Call(static_cast<Served&>(call)));
          },
  };
}

}  // namespace ferry

#endif  // FERRY_RPC_SERVICE_H_
