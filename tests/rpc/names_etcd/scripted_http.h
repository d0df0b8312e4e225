// An HTTP server that says what a test wants it to.
#ifndef FERRY_TESTS_RPC_NAMES_ETCD_SCRIPTED_HTTP_H_
#define FERRY_TESTS_RPC_NAMES_ETCD_SCRIPTED_HTTP_H_

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "ferry/transport/posix.h"

namespace ferry::test {

// A ScriptedHttp takes one request a connection, on a thread of its own, and sends what the script has for
// its path, byte for byte. Nothing more comes then, but the connection stays open until this is destroyed.
//
// Thread-safe.
class ScriptedHttp {
 public:
  // What to send for a path. Runs on the server's thread.
  using Script = std::function<std::string(const std::string& path)>;

  explicit ScriptedHttp(Script script);
  ~ScriptedHttp();
  ScriptedHttp(const ScriptedHttp&) = delete;
  ScriptedHttp& operator=(const ScriptedHttp&) = delete;

  const std::string& endpoint() const { return endpoint_; }
  // Of the requests so far, in their order.
  std::vector<std::string> paths() const;

  // An answer of this body, whole.
  static std::string Answer(const std::string& body, int code = 200);
  // The beginning of an answer that has no end.
  static std::string Endless(const std::string& begin);

 private:
  void Run();
  void Serve(const transport::FileDescriptor& socket);

  const Script script_;
  std::string endpoint_;
  transport::FileDescriptor listening_;
  std::atomic<bool> stop_{false};
  mutable absl::Mutex mutex_;
  std::vector<std::string> paths_ ABSL_GUARDED_BY(mutex_);
  // Belong to the thread.
  std::vector<transport::FileDescriptor> sockets_;
  std::thread thread_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_RPC_NAMES_ETCD_SCRIPTED_HTTP_H_
