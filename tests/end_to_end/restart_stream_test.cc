// Servers that are replaced while streams of replies are in flight: their readers resume, and nothing is lost
// or comes twice.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/channel.h"
#include "ferry/rpc/client_stream.h"
#include "ferry/rpc/server.h"
#include "ferry/rpc/server_context.h"
#include "ferry/rpc/stream_io.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/served.h"
#include "tests/end_to_end/streams.ferry.h"
#include "tests/end_to_end/waiting.h"
#include "tests/testing/temporary_directory.h"

namespace ferry::test::e2e {
namespace {

#if defined(ABSL_HAVE_ADDRESS_SANITIZER) || defined(ABSL_HAVE_THREAD_SANITIZER)
constexpr uint64_t kPartsPerRestart = 200;
#else
constexpr uint64_t kPartsPerRestart = 5'000;
#endif
constexpr int kRestarts = 20;
constexpr int kReaders = 4;

// A Counting is a server that counts: it sends the numbers from the request's id on, without end, unless it
// drains.
class Counting final : public StreamsService {
 public:
  Counting(const std::string& address, bool ends_streams) {
    server_ = std::make_unique<Server>(
        ServerOptions{.threads = 1, .executor_threads = kReaders, .reuse_port = true});
    server_->Register(*this);
    if (ends_streams) server_->OnDrain([this] { draining_ = true; });
    const absl::Status listening = server_->Listen(address);
    EXPECT_TRUE(listening.ok()) << listening;
  }

  absl::Status Send(ServerContext&, const Part& request, StreamWriter<Part>& replies) override {
    Part part;
    for (uint64_t next = request.id(); !draining_; ++next) {
      part.set_id(next);
      if (!replies.Write(part)) return absl::AbortedError("nobody takes the parts");
    }
    return absl::UnavailableError("the server shuts down: resume elsewhere");
  }

  Server& server() { return *server_; }

 private:
  std::atomic<bool> draining_{false};
  std::unique_ptr<Server> server_;
};

// A Reader reads a stream of numbers on a thread of its own, and resumes it behind the last whenever it ends.
class Reader {
 public:
  explicit Reader(Channel& channel) : stub_(channel), thread_([this] { Run(); }) {}
  ~Reader() { Stop(); }

  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }
  uint64_t read() const { return next_.load(); }
  uint64_t resumed() const { return resumed_.load(); }

 private:
  void Run() {
    while (!stopping_) {
      Part part;
      part.set_id(next_.load());
      ServerStream<Part> stream = stub_.Send(part, {.wait_for_ready = true});
      while (!stopping_ && stream.Read(part)) {
        ASSERT_EQ(part.id(), next_.load()) << "lost, or twice";
        next_.fetch_add(1);
      }
      if (stopping_) return;
      const absl::Status status = stream.Finish();
      ASSERT_TRUE(absl::IsUnavailable(status)) << status;
      ++resumed_;
    }
  }

  StreamsStub stub_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> resumed_{0};
  std::thread thread_;
};

// On every other server the streams end by themselves when it drains; on the others they are cut.
TEST(RestartStreamTest, ResumedStreamsLoseNothingAndGetNothingTwice) {
  for (const std::string& transport : {std::string("127.0.0.1:0"), std::string("unix")}) {
    SCOPED_TRACE(transport);
    const TemporaryDirectory directory;
    auto server = std::make_unique<Counting>(NewAddress(transport, directory), false);
    const std::string address = server->server().addresses().front();
    const std::unique_ptr<Channel> channel =
        ChannelTo(address, {.min_backoff = absl::Milliseconds(20), .max_backoff = absl::Milliseconds(20)});
    std::vector<std::unique_ptr<Reader>> readers;
    readers.reserve(kReaders);
    for (int i = 0; i < kReaders; ++i) readers.push_back(std::make_unique<Reader>(*channel));
    // As often as there were restarts, and have read from the server that runs now.
    const auto all_have_resumed = [&readers](int restarts) {
      const bool resumed = Eventually([&] {
        return std::all_of(readers.begin(), readers.end(), [restarts](const auto& reader) {
          return reader->resumed() >= static_cast<uint64_t>(restarts);
        });
      });
      if (!resumed) return false;
      std::vector<uint64_t> wanted;
      wanted.reserve(readers.size());
      for (const auto& reader : readers) wanted.push_back(reader->read() + kPartsPerRestart);
      return Eventually([&] {
        for (size_t i = 0; i < wanted.size(); ++i) {
          if (readers[i]->read() < wanted[i]) return false;
        }
        return true;
      });
    };
    for (int i = 0; i < kRestarts; ++i) {
      ASSERT_TRUE(all_have_resumed(i)) << "after " << i << " restarts";
      const bool was_to_end = i % 2 == 1;
      auto next = std::make_unique<Counting>(address, !was_to_end);
      server->server().Shutdown(was_to_end ? kLongTime : absl::ZeroDuration());
      server = std::move(next);
    }
    EXPECT_TRUE(all_have_resumed(kRestarts));
    uint64_t read = 0;
    for (const auto& reader : readers) {
      reader->Stop();
      read += reader->read();
    }
    std::printf("%d parts over %d restarts\n", static_cast<int>(read), kRestarts);
  }
}

}  // namespace
}  // namespace ferry::test::e2e
