// The Echo service of the protocol's document, which does as the test says.
#ifndef FERRY_TESTS_TESTING_ECHO_SERVICE_H_
#define FERRY_TESTS_TESTING_ECHO_SERVICE_H_

#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "ferry/rpc/method.h"
#include "ferry/rpc/server_call.h"
#include "ferry/rpc/streaming_call.h"
#include "google/protobuf/wrappers.pb.h"
#include "tests/testing/echo.ferry.h"

namespace ferry::test {

inline constexpr uint64_t kEchoId = MethodId("ferry.test.Echo/Echo");
inline constexpr uint64_t kFailId = MethodId("ferry.test.Echo/Fail");
inline constexpr uint64_t kWaitId = MethodId("ferry.test.Echo/Wait");
inline constexpr uint64_t kChatId = MethodId("ferry.test.Echo/Chat");
inline constexpr uint64_t kWatchId = MethodId("ferry.test.Echo/Watch");

// A ScriptedEcho is the document's service: its Wait and Chat keep the calls for the test to finish.
//
// Thread-compatible: for servers whose handlers all run on the test's thread.
class ScriptedEcho final : public EchoService {
 public:
  using Call = UnaryCall<Text, Text>;

  void StartEcho(Call call) override {
    ++started;
    if (on_echo) return on_echo(std::move(call));
    call.reply().set_text(call.request().text());
    std::move(call).Finish(absl::OkStatus());
  }

  void StartFail(Call call) override {
    ++started;
    absl::Status status = absl::NotFoundError(absl::StrCat("no user ", call.request().text()));
    google::protobuf::StringValue detail;
    detail.set_value(call.request().text());
    status.SetPayload("type.googleapis.com/google.protobuf.StringValue",
                      absl::Cord(detail.SerializeAsString()));
    call.context().trailing_metadata().Add("shard", "3");
    std::move(call).Finish(std::move(status));
  }

  void StartWait(Call call) override {
    ++started;
    held.push_back(std::move(call));
  }

  void StartChat(BidiStreamingCall<Text, Text> call) override {
    ++started;
    chats.push_back(std::move(call));
  }

  void StartWatch(ServerStreamingCall<Text, Text> call) override {
    ++started;
    std::move(call).Finish(absl::OkStatus());
  }

  // Finishes the oldest call that Wait keeps.
  void FinishHeld(absl::Status status) {
    Call call = std::move(held.front());
    held.erase(held.begin());
    std::move(call).Finish(std::move(status));
  }

  // Instead of what Echo does.
  std::function<void(Call)> on_echo;
  std::vector<Call> held;
  // What Chat keeps, for the test to read, write and finish.
  std::vector<BidiStreamingCall<Text, Text>> chats;
  // Handlers started so far.
  int started = 0;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_ECHO_SERVICE_H_
