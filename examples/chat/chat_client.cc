// chat_client ADDRESS NAME: says what is typed, and prints what others say.
// chat_client ADDRESS: prints everything that was and is said, through any number of lost connections.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/chat/chat.ferry.h"
#include "ferry/rpc/channel.h"

namespace {

void Print(const chat::Line& line) {
  std::printf("%s: %s\n", line.speaker().c_str(), line.text().c_str());
  std::fflush(stdout);
}

absl::Status Talk(chat::ChatStub chat, const std::string& name) {
  ferry::BidiStream<chat::Line, chat::Line> room = chat.Join();
  // One thread reads while another writes.
  std::thread printer([&room, &name] {
    chat::Line line;
    while (room.Read(line)) {
      if (line.speaker() != name) Print(line);
    }
  });
  chat::Line line;
  line.set_speaker(name);
  std::string text;
  while (std::getline(std::cin, text)) {
    line.set_text(text);
    if (!room.Write(line)) break;  // Finish says why
  }
  room.WritesDone();
  printer.join();
  return room.Finish();
}

// A stream that ends is begun again behind the last line that came: no line is lost or printed twice.
absl::Status Follow(chat::ChatStub chat) {
  uint64_t last = 0;
  for (;;) {
    chat::FollowRequest request;
    request.set_after(last);
    ferry::ServerStream<chat::Line> lines = chat.Follow(request, {.wait_for_ready = true});
    chat::Line line;
    while (lines.Read(line)) {
      Print(line);
      last = line.number();
    }
    absl::Status status = lines.Finish();
    if (!absl::IsUnavailable(status)) return status;
    std::fprintf(stderr, "%s; going on after line %llu\n", status.ToString().c_str(),
                 static_cast<unsigned long long>(last));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: chat_client ADDRESS [NAME]\n");
    return 2;
  }
  absl::StatusOr<std::unique_ptr<ferry::Channel>> channel = ferry::Channel::Create(argv[1]);
  if (!channel.ok()) {
    std::fprintf(stderr, "%s\n", channel.status().ToString().c_str());
    return 1;
  }
  const chat::ChatStub stub(**channel);
  const absl::Status status = argc > 2 ? Talk(stub, argv[2]) : Follow(stub);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
