// Calls the Greeter at the address given, in every form there is.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "examples/greeter/greeter.ferry.h"
#include "ferry/rpc/call_options.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/in_process.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/spawn.h"
#include "ferry/rpc/task.h"

namespace {

using examples::greeter::GreeterService;
using examples::greeter::GreeterStub;
using examples::greeter::GreetReply;
using examples::greeter::GreetRequest;

int failures = 0;

void Print(const char* form, const absl::Status& status, const std::string& text) {
  std::printf("  %-32s %s\n", form, status.ok() ? text.c_str() : status.ToString().c_str());
}

void Expect(bool expected, const char* form) {
  if (expected) return;
  std::fprintf(stderr, "%s: not what was expected\n", form);
  ++failures;
}

void Blocking(GreeterStub& greeter, const GreetRequest& request) {
  // [quickstart]
  absl::StatusOr<GreetReply> reply = greeter.Greet(request, {.timeout = absl::Seconds(5)});
  if (reply.ok()) std::printf("  %-32s %s\n", "blocking", reply->text().c_str());
  // [/quickstart]
  Expect(reply.ok(), "blocking");
}

void BlockingInto(GreeterStub& greeter, const GreetRequest& request) {
  GreetReply reply;
  const absl::Status status = greeter.Greet(request, reply);
  Print("blocking, into a reply", status, reply.text());
  Expect(status.ok(), "blocking, into a reply");
}

void Callback(GreeterStub& greeter, const GreetRequest& request) {
  absl::Notification done;
  bool replied = false;
  // [quickstart]
  greeter.Greet(request, {}, [&](absl::StatusOr<GreetReply> reply) {
    if (reply.ok()) std::printf("  %-32s %s\n", "callback", reply->text().c_str());
    replied = reply.ok();
    done.Notify();
  });
  // [/quickstart]
  done.WaitForNotification();
  Expect(replied, "callback");
}

void CallbackInto(GreeterStub& greeter, const GreetRequest& request) {
  absl::Notification done;
  GreetReply reply;
  bool replied = false;
  greeter.Greet(request, reply, {}, [&](const absl::Status& status) {
    Print("callback, into a reply", status, reply.text());
    replied = status.ok();
    done.Notify();
  });
  done.WaitForNotification();
  Expect(replied, "callback, into a reply");
}

ferry::Task<absl::StatusOr<std::string>> GreetBoth(GreeterStub& greeter, const GreetRequest& request) {
  // Both calls are under way before the first is waited for.
  ferry::Task<absl::StatusOr<GreetReply>> first = greeter.CoGreet(request);
  ferry::Task<absl::StatusOr<GreetReply>> second = greeter.CoGreetLater(request);
  const absl::StatusOr<GreetReply> greeting = co_await first;
  const absl::StatusOr<GreetReply> later = co_await second;
  if (!greeting.ok()) co_return greeting.status();
  if (!later.ok()) co_return later.status();
  co_return greeting->text() + " " + later->text();
}

void Coroutine(ferry::Channel& channel, GreeterStub& greeter, const GreetRequest& request) {
  const absl::StatusOr<std::string> text = ferry::BlockOn(channel.loop(), GreetBoth(greeter, request));
  Print("coroutine, two calls at once", text.status(), text.value_or(""));
  Expect(text.ok(), "coroutine, two calls at once");
}

void FinishedLater(GreeterStub& greeter, const GreetRequest& request) {
  const absl::StatusOr<GreetReply> reply = greeter.GreetLater(request);
  Print("finished by another thread", reply.status(), reply.ok() ? reply->text() : "");
  Expect(reply.ok(), "finished by another thread");
}

void WithOptions(GreeterStub& greeter, const GreetRequest& request) {
  ferry::ReplyMetadata metadata;
  const absl::StatusOr<GreetReply> reply = greeter.Greet(request, {.timeout = absl::Seconds(5),
                                                                   .metadata = {{"caller", "greeter-client"}},
                                                                   .wait_for_ready = true,
                                                                   .reply_metadata = &metadata});
  const std::string* caller = metadata.initial.Find("caller");
  const std::string* served_by = metadata.trailing.Find("served-by");
  const bool both = caller != nullptr && served_by != nullptr;
  Print("options and metadata", reply.status(), both ? *caller + " served by " + *served_by : "");
  Expect(reply.ok() && both && *caller == "greeter-client", "options and metadata");
}

void Failing(GreeterStub& greeter) {
  const absl::StatusOr<GreetReply> reply = greeter.Greet(GreetRequest());
  Print("an error of the handler", reply.status(), "");
  Expect(absl::IsInvalidArgument(reply.status()), "an error of the handler");
}

class LocalGreeter final : public GreeterService {
 public:
  absl::Status Greet(ferry::ServerContext& context, const GreetRequest& request, GreetReply& reply) override {
    reply.set_text("Hello, " + request.name() + ", from " + context.peer() + "!");
    return absl::OkStatus();
  }
};

// As tests of applications do it: no address, no socket.
void InProcess(const GreetRequest& request) {
  LocalGreeter service;
  ferry::Server server({.threads = 1});
  server.Register(service);
  absl::StatusOr<std::unique_ptr<ferry::Channel>> channel = ferry::CreateInProcessChannel(server);
  if (!channel.ok()) return Expect(false, "in this process");
  const absl::StatusOr<GreetReply> reply = GreeterStub(**channel).Greet(request);
  Print("in this process", reply.status(), reply.ok() ? reply->text() : "");
  Expect(reply.ok(), "in this process");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s ADDRESS\n", argv[0]);
    return 2;
  }
  const std::string address = argv[1];
  // [quickstart]
  absl::StatusOr<std::unique_ptr<ferry::Channel>> channel = ferry::Channel::Create(address);
  if (!channel.ok()) {
    std::fprintf(stderr, "%s\n", channel.status().ToString().c_str());
    return 1;
  }
  GreeterStub greeter(**channel);
  GreetRequest request;
  request.set_name("Ferry");
  // [/quickstart]
  Blocking(greeter, request);
  BlockingInto(greeter, request);
  Callback(greeter, request);
  CallbackInto(greeter, request);
  Coroutine(**channel, greeter, request);
  FinishedLater(greeter, request);
  WithOptions(greeter, request);
  Failing(greeter);
  InProcess(request);
  return failures == 0 ? 0 : 1;
}
