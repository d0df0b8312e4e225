// What a case of the conformance table has: a server and a client in a mode.
#ifndef FERRY_TESTS_CONFORMANCE_FIXTURE_H_
#define FERRY_TESTS_CONFORMANCE_FIXTURE_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "ferry/rpc/channel.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/service.h"
#include "tests/conformance/caller.h"
#include "tests/conformance/findings.h"
#include "tests/conformance/handlers.h"
#include "tests/conformance/mode.h"
#include "tests/testing/raw_peer.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test::conformance {

// A Fixture is a server of the conformance service in a mode, and a client of it.
//
// Thread-compatible.
class Fixture {
 public:
  Fixture(const Mode& mode, Scale scale);
  ~Fixture();

  const Mode& mode() const { return mode_; }
  Scale scale() const { return scale_; }
  Caller& caller() { return *caller_; }
  HandlerLog& log() { return log_; }

  // A further channel to the server, for a case that will use it.
  std::unique_ptr<Channel> NewChannel();

  // A client of which the test says every byte; prefaces and SETTINGS are exchanged.
  std::unique_ptr<RawPeer> ConnectRaw(Findings& findings);

  // What must hold when all calls of a case have ended: no channel has connected twice, another call is
  // served, no handler is left, and all were run where the mode says.
  void ExpectHealthy(Findings& findings);

 private:
  const Mode mode_;
  const Scale scale_;
  const TemporaryDirectory directory_;
  HandlerLog log_;
  size_t channels_ = 0;
  std::atomic<size_t> connections_{0};
  const std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
  std::string address_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<Caller> caller_;
};

}  // namespace ferry::test::conformance

#endif  // FERRY_TESTS_CONFORMANCE_FIXTURE_H_
