#include "tests/testing/etcd_server.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/transport/address.h"
#include "ferry/transport/check.h"
#include "ferry/transport/clock.h"
#include "ferry/transport/posix.h"
#include "ferry/transport/socket.h"
#include "ferry/transport/socket_address.h"

namespace ferry::test {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Two ports that nobody listens on just now.
std::vector<std::string> FreeEndpoints() {
  std::vector<transport::FileDescriptor> sockets;
  std::vector<std::string> endpoints;
  const auto any = Resolve(*transport::Address::Parse("127.0.0.1:0"))->front();
  for (int i = 0; i < 2; ++i) {
    auto socket = transport::OpenSocket(any);
    FERRY_CHECK(socket.ok() && Bind(*socket, any).ok(), "no free port");
    endpoints.push_back(LocalAddress(*socket)->ToString());
    sockets.push_back(*std::move(socket));
  }
  return endpoints;
}

size_t Append(char* bytes, size_t size, size_t count, void* text) {
  static_cast<std::string*>(text)->append(bytes, size * count);
  return size * count;
}

std::string Quoted(absl::string_view bytes) { return absl::StrCat("\"", absl::Base64Escape(bytes), "\""); }

// The first value after `"name":"` in `json`, from `*position` on, which is moved behind it.
std::string TakeField(const std::string& json, absl::string_view name, size_t* position) {
  const std::string begin = absl::StrCat("\"", name, "\":\"");
  const size_t found = json.find(begin, *position);
  if (found == std::string::npos) return "";
  const size_t end = json.find('"', found + begin.size());
  *position = end;
  return json.substr(found + begin.size(), end - found - begin.size());
}

}  // namespace

EtcdServer::EtcdServer() {
  constexpr int kTries = 5;
  for (int tries = 0; tries < kTries; ++tries) {
    std::vector<std::string> endpoints = FreeEndpoints();
    endpoint_ = endpoints[0];
    peer_endpoint_ = endpoints[1];
    Launch();
    // Another may have taken a port meanwhile.
    if (AwaitReady()) return;
    Stop();
    Forget();
  }
  FERRY_CHECK(false, "etcd does not start: is Debian's package etcd-server installed?");
}

EtcdServer::~EtcdServer() { Stop(); }

void EtcdServer::Launch() {
  const std::string client = absl::StrCat("http://", endpoint_);
  const std::string peer = absl::StrCat("http://", peer_endpoint_);
  std::vector<std::string> arguments = {
      "etcd", "--name=test", "--data-dir", directory_.path() + "/data", "--listen-client-urls", client,
      "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
      "--initial-cluster", "test=" + peer,
      // One member agrees with itself quickly.
      "--heartbeat-interval=10", "--election-timeout=100", "--unsafe-no-fsync", "--logger=zap"};
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string log = directory_.path() + "/log";
  pid_ = fork();
  FERRY_CHECK(pid_ >= 0, "cannot fork");
  if (pid_ > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  execv("/usr/bin/etcd", argv.data());
  _exit(127);
}

// False if the process has ended instead.
bool EtcdServer::AwaitReady() const {
  const transport::Clock& clock = transport::Clock::Real();
  const transport::Instant give_up = clock.Now() + kPatience;
  while (clock.Now() < give_up) {
    if (Post("/v3/kv/range", "{\"key\":\"YQ==\"}").ok()) return true;
    siginfo_t ended = {};
    waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == pid_) return false;
    std::this_thread::yield();
  }
  return false;
}

void EtcdServer::Stop() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, -1), nullptr, 0);
}

void EtcdServer::Start() {
  Launch();
  FERRY_CHECK(AwaitReady(), "etcd does not start again");
}

void EtcdServer::Forget() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_.path() + "/data", ignored);
}

void EtcdServer::Pause() {
  kill(pid_, SIGSTOP);
  // Not before all its threads have stopped.
  siginfo_t stopped = {};
  waitid(P_PID, static_cast<id_t>(pid_), &stopped, WSTOPPED);
}

void EtcdServer::Resume() { kill(pid_, SIGCONT); }

absl::StatusOr<std::string> EtcdServer::Post(absl::string_view path, const std::string& json) const {
  CURL* const easy = curl_easy_init();
  std::string answer;
  curl_easy_setopt(easy, CURLOPT_URL, absl::StrCat("http://", endpoint_, path).c_str());
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, json.c_str());
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Append);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_TIMEOUT, absl::ToInt64Seconds(kPatience));
  const CURLcode result = curl_easy_perform(easy);
  long code = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
  curl_easy_cleanup(easy);
  if (result != CURLE_OK) return absl::UnavailableError(curl_easy_strerror(result));
  if (code != 200) return absl::InternalError(absl::StrCat("HTTP ", code, ": ", answer));
  return answer;
}

std::string EtcdServer::MustPost(absl::string_view path, const std::string& json) const {
  absl::StatusOr<std::string> answer = Post(path, json);
  FERRY_CHECK(answer.ok(), answer.status().ToString().c_str());
  return *std::move(answer);
}

void EtcdServer::Put(absl::string_view key, absl::string_view value) {
  MustPost("/v3/kv/put", absl::StrCat("{\"key\":", Quoted(key), ",\"value\":", Quoted(value), "}"));
}

void EtcdServer::Delete(absl::string_view key) {
  MustPost("/v3/kv/deleterange", absl::StrCat("{\"key\":", Quoted(key), "}"));
}

int64_t EtcdServer::Count(absl::string_view prefix) {
  std::string end(prefix);
  ++end.back();
  const std::string answer = MustPost(
      "/v3/kv/range",
      absl::StrCat("{\"key\":", Quoted(prefix), ",\"range_end\":", Quoted(end), ",\"count_only\":true}"));
  size_t position = 0;
  int64_t count = 0;
  static_cast<void>(absl::SimpleAtoi(TakeField(answer, "count", &position), &count));
  return count;
}

void EtcdServer::RevokeLeases() {
  const std::string leases = MustPost("/v3/lease/leases", "{}");
  size_t position = 0;
  for (std::string id; !(id = TakeField(leases, "ID", &position)).empty();) {
    MustPost("/v3/lease/revoke", absl::StrCat("{\"ID\":\"", id, "\"}"));
  }
}

void EtcdServer::Compact() {
  const std::string answer = MustPost("/v3/kv/range", "{\"key\":\"YQ==\"}");
  size_t position = 0;
  const std::string revision = TakeField(answer, "revision", &position);
  MustPost("/v3/kv/compaction", absl::StrCat("{\"revision\":\"", revision, "\"}"));
}

}  // namespace ferry::test
