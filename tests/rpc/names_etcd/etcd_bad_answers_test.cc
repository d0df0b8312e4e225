// What etcd would not say, or says seldom.
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/etcd_options.h"
#include "gtest/gtest.h"
#include "tests/rpc/names_etcd/resolving.h"
#include "tests/rpc/names_etcd/scripted_http.h"

namespace ferry::test {
namespace {

// The answer to a read: one server at `revision`.
std::string List(int revision) {
  const std::string key = absl::Base64Escape("/ferry/services/greeter/127.0.0.1:1");
  return ScriptedHttp::Answer(
      absl::StrCat(R"({"header":{"revision":")", revision, R"("},"kvs":[{"key":")", key, R"("}]})"));
}

EtcdOptions Options(const ScriptedHttp& server) {
  EtcdOptions options = QuickEtcdOptions({server.endpoint()});
  options.max_answer_bytes = 10'000;
  options.probe_interval = absl::Hours(1);
  return options;
}

TEST(EtcdBadAnswersTest, ABadListIsAnErrorThatSaysWhatCame) {
  const struct {
    std::string name;
    std::string answer;
    absl::StatusCode code;
    std::string problem;
  } kCases[] = {
      {"not HTTP", "SSH-2.0-OpenSSH\r\n", absl::StatusCode::kUnavailable, "service greeter: "},
      {"another server", ScriptedHttp::Answer("<html>\x01"), absl::StatusCode::kInternal,
       R"(sent no answer of etcd's: '<html>\x01')"},
      {"not found", ScriptedHttp::Answer("404 page not found", 404), absl::StatusCode::kInternal,
       "answered HTTP 404, not as etcd does: '404 page not found'"},
      {"empty", ScriptedHttp::Answer(""), absl::StatusCode::kInternal, "sent no answer"},
      {"no revision", ScriptedHttp::Answer("{}"), absl::StatusCode::kInternal, "has no revision"},
      {"bad base64", ScriptedHttp::Answer(R"({"kvs":[{"key":"%"}]})"), absl::StatusCode::kInternal,
       "sent no answer"},
      {"etcd's error", ScriptedHttp::Answer(R"({"message":"etcdserver: no leader","code":14})", 503),
       absl::StatusCode::kUnavailable, "etcdserver: no leader"},
      {"no error's code", ScriptedHttp::Answer(R"({"message":"odd","code":99})", 500),
       absl::StatusCode::kUnknown, "odd"},
      {"redirected",
       "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\nContent-Length: "
       "0\r\n\r\n",
       absl::StatusCode::kInternal, "answered HTTP 302"},
      {"too long", ScriptedHttp::Answer(std::string(20'000, ' ')), absl::StatusCode::kResourceExhausted,
       "longer than 10000 bytes"},
      {"endless", ScriptedHttp::Endless(std::string(20'000, ' ')), absl::StatusCode::kResourceExhausted,
       "longer than 10000 bytes"},
      {"never", "HTTP/1.1 200 OK\r\n", absl::StatusCode::kDeadlineExceeded, "no answer in time"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    ScriptedHttp server([&](const std::string&) { return c.answer; });
    EtcdOptions options = Options(server);
    options.request_timeout = c.name == "never" ? absl::Milliseconds(50) : absl::Seconds(50);
    Resolving resolving(options);
    const absl::Status error = resolving.AwaitError(c.problem);
    EXPECT_EQ(error.code(), c.code) << error;
    EXPECT_TRUE(absl::StrContains(error.message(), absl::StrCat("etcd ", server.endpoint()))) << error;
    EXPECT_TRUE(resolving.servers().empty());
  }
}

TEST(EtcdBadAnswersTest, ABadWatchIsAnErrorAndTheListIsKept) {
  const struct {
    std::string name;
    std::string answer;
    std::string problem;
  } kCases[] = {
      {"not JSON", ScriptedHttp::Endless("<html>\n"), "sent what is no watch of etcd's: '<html>'"},
      {"neither result nor error", ScriptedHttp::Endless("{}\n"), "sent what is no watch of etcd's: '{}'"},
      {"an error", ScriptedHttp::Endless("{\"error\":{\"message\":\"odd\"}}\n"), "the watch failed: odd"},
      {"cancelled", ScriptedHttp::Endless("{\"result\":{\"canceled\":true,\"cancel_reason\":\"why\"}}\n"),
       "etcd cancelled the watch: why"},
      {"an endless line", ScriptedHttp::Endless(std::string(20'000, ' ')), "longer than 10000 bytes"},
      {"refused", ScriptedHttp::Answer("{\"message\":\"no watches\",\"code\":7}\n", 403), "no watches"},
      {"ends at once", ScriptedHttp::Answer(""), "the watch ended"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.name);
    ScriptedHttp server(
        [&](const std::string& path) { return path == "/v3/watch" ? c.answer : List(/*revision=*/5); });
    Resolving resolving(Options(server));
    const absl::Status error = resolving.AwaitError(c.problem);
    EXPECT_TRUE(absl::StrContains(error.message(), "service greeter")) << error;
    resolving.AwaitNames({"127.0.0.1:1"});
  }
}

TEST(EtcdBadAnswersTest, AWatchFromBeforeACompactionReadsAgain) {
  int reads = 0;  // on the server's thread
  ScriptedHttp server([&](const std::string& path) {
    if (path == "/v3/kv/range") return List(++reads);
    if (reads == 1)
      return ScriptedHttp::Endless("{\"result\":{\"canceled\":true,\"compact_revision\":\"9\"}}\n");
    return ScriptedHttp::Endless("{\"result\":{\"created\":true}}\n");
  });
  Resolving resolving(Options(server));
  resolving.AwaitTold(2);
  resolving.AwaitNames({"127.0.0.1:1"});
  EXPECT_TRUE(resolving.errors().empty()) << resolving.errors().front();
  while (server.paths().size() < 4) std::this_thread::yield();
  EXPECT_EQ(server.paths(),
            (std::vector<std::string>{"/v3/kv/range", "/v3/watch", "/v3/kv/range", "/v3/watch"}));
}

TEST(EtcdBadAnswersTest, ChangesThatComeInPiecesAreOne) {
  const std::string key = absl::Base64Escape("/ferry/services/greeter/127.0.0.1:2");
  const std::string line = absl::StrCat(
      R"({"result":{"header":{"revision":"6"},"events":[{"type":"PUT","kv":{"key":")", key, "\"}}]}}\n");
  ScriptedHttp server([&](const std::string& path) {
    if (path != "/v3/watch") return List(/*revision=*/5);
    std::string chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const char c : line) absl::StrAppend(&chunks, "1\r\n", std::string(1, c), "\r\n");
    return chunks;
  });
  Resolving resolving(Options(server));
  resolving.AwaitNames({"127.0.0.1:1", "127.0.0.1:2"});
}

}  // namespace
}  // namespace ferry::test
