// A real etcd, for tests.
#ifndef FERRY_TESTS_TESTING_ETCD_SERVER_H_
#define FERRY_TESTS_TESTING_ETCD_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test {

// An EtcdServer is a process of Debian's etcd-server with one member, on loopback ports that were free and a
// directory of its own. It ends with this, and with the thread that started it.
//
// Thread-compatible. Everything blocks; what cannot be done ends the test's program.
class EtcdServer {
 public:
  // Starts it, and returns when it answers.
  EtcdServer();
  ~EtcdServer();
  EtcdServer(const EtcdServer&) = delete;
  EtcdServer& operator=(const EtcdServer&) = delete;

  // "127.0.0.1:2379", the same for ever.
  const std::string& endpoint() const { return endpoint_; }

  // Kills the process; starts another on the same data and ports.
  void Stop();
  void Start();
  // What it knew is forgotten at the next Start. REQUIRES: it is stopped.
  void Forget();
  // Stops the process in its tracks: its connections stay, and it answers nothing. Lets it go on.
  void Pause();
  void Resume();

  void Put(absl::string_view key, absl::string_view value);
  void Delete(absl::string_view key);
  // How many keys begin with `prefix`, which ends with '/'.
  int64_t Count(absl::string_view prefix);
  // Revokes every lease, behind the backs of who has them.
  void RevokeLeases();
  // Forgets all changes so far.
  void Compact();

 private:
  // The answer to `json`, if there is one.
  absl::StatusOr<std::string> Post(absl::string_view path, const std::string& json) const;
  // The same, which must succeed.
  std::string MustPost(absl::string_view path, const std::string& json) const;
  void Launch();
  bool AwaitReady() const;

  const TemporaryDirectory directory_;
  std::string endpoint_;
  std::string peer_endpoint_;
  pid_t pid_ = -1;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_ETCD_SERVER_H_
