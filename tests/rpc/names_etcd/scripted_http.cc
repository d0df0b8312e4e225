#include "tests/rpc/names_etcd/scripted_http.h"

#include <sys/uio.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "ferry/transport/address.h"
#include "ferry/transport/check.h"
#include "ferry/transport/io_result.h"
#include "ferry/transport/socket.h"

namespace ferry::test {

using transport::FileDescriptor;
using transport::IoResult;

ScriptedHttp::ScriptedHttp(Script script) : script_(std::move(script)) {
  const auto any = Resolve(*transport::Address::Parse("127.0.0.1:0"))->front();
  auto socket = transport::OpenSocket(any);
  FERRY_CHECK(socket.ok() && Bind(*socket, any).ok() && Listen(*socket, 100, any).ok(), "cannot listen");
  listening_ = *std::move(socket);
  endpoint_ = LocalAddress(listening_)->ToString();
  thread_ = std::thread([this] { Run(); });
}

ScriptedHttp::~ScriptedHttp() {
  stop_ = true;
  thread_.join();
}

void ScriptedHttp::Run() {
  while (!stop_) {
    transport::AcceptResult accepted = Accept(listening_, {});
    if (accepted.state == transport::AcceptResult::State::kAccepted) {
      Serve(accepted.socket);
      sockets_.push_back(std::move(accepted.socket));
    }
    std::this_thread::yield();
  }
}

void ScriptedHttp::Serve(const FileDescriptor& socket) {
  // Requests have no more than a few hundred bytes: they come whole, the last byte of their JSON with them.
  std::string request;
  while (!stop_ && !request.ends_with("}")) {
    char bytes[4096];
    const iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    const IoResult read = Receive(socket, {&part, 1}, {});
    if (read.state == IoResult::State::kEnd || read.state == IoResult::State::kFailed) return;
    request.append(bytes, read.bytes);
  }
  // "POST /path HTTP/1.1"
  const size_t begin = request.find(' ') + 1;
  const std::string path = request.substr(begin, request.find(' ', begin) - begin);
  {
    absl::MutexLock lock(&mutex_);
    paths_.push_back(path);
  }
  std::string answer = script_(path);
  for (size_t sent = 0; !stop_ && sent < answer.size();) {
    const iovec part = {.iov_base = answer.data() + sent, .iov_len = answer.size() - sent};
    const IoResult written = Send(socket, {&part, 1}, {});
    if (written.state == IoResult::State::kFailed) return;
    sent += written.bytes;
  }
}

std::vector<std::string> ScriptedHttp::paths() const {
  absl::MutexLock lock(&mutex_);
  return paths_;
}

std::string ScriptedHttp::Answer(const std::string& body, int code) {
  return absl::StrCat("HTTP/1.1 ", code, " X\r\nConnection: close\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

std::string ScriptedHttp::Endless(const std::string& begin) {
  return absl::StrCat("HTTP/1.1 200 OK\r\n\r\n", begin);
}

}  // namespace ferry::test
