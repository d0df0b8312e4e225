// client ADDRESS NAME: prints the greeting for NAME.
#include <iostream>

#include "ferry/rpc/channel.h"
#include "greeter.ferry.h"

int main(int, char** argv) {
  auto channel = ferry::Channel::Create(argv[1], {});
  if (!channel.ok()) {
    std::cerr << channel.status() << "\n";
    return 1;
  }
  consumer::GreetRequest request;
  request.set_name(argv[2]);
  consumer::GreeterStub greeter(**channel);
  auto reply = greeter.Greet(request, {.timeout = absl::Seconds(10)});
  if (!reply.ok()) {
    std::cerr << reply.status() << "\n";
    return 1;
  }
  std::cout << reply->message() << "\n";
}
