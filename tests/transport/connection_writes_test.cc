// Which sends leave in one write.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "ferry/transport/byte_stream.h"
#include "ferry/transport/connection.h"
#include "ferry/transport/event_loop.h"
#include "ferry/transport/frame.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_stream.h"
#include "tests/testing/run_loop.h"
#include "tests/testing/stream_pair.h"
#include "tests/transport/connection_fixture.h"

namespace ferry::transport {
namespace {

using test::FaultyStream;
using test::NewLoop;
using test::NewStreamPair;
using test::RunIn;
using test::StreamKind;
using test::StreamPair;
using testing::ElementsAre;
using testing::StartsWith;

// ---------------------------------------------------------------- Writes, one by one

using ConnectionWritesTest = ConnectionFixture;

void WriteTo(ByteStream& stream, std::string bytes) {
  const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
  EXPECT_EQ(stream.Write({&part, 1}).bytes, bytes.size());
}

// What has come up to now.
std::string ReadFrom(ByteStream& stream) {
  std::string bytes(1000, '\0');
  const iovec part = {.iov_base = bytes.data(), .iov_len = bytes.size()};
  bytes.resize(stream.Read({&part, 1}).bytes);
  return bytes;
}

TEST_F(ConnectionWritesTest, AnswersToOneReadLeaveInOneWrite) {
  StartTalking();
  recorder_.on_frame = [this](const Frame& frame) { SendMessage(*connection_, frame.message()); };
  std::string frames;
  for (int i = 0; i < 100; ++i) frames += MessageFrame(absl::StrCat(i));
  const uint64_t before = writes();
  PeerWrites(frames);
  EXPECT_EQ(writes() - before, 1u);
  EXPECT_EQ(recorder_.reads, 2);
  EXPECT_EQ(PeerReads(), frames);
}

TEST_F(ConnectionWritesTest, SendsOfATaskLeaveInOneWrite) {
  StartTalking();
  const uint64_t before = writes();
  OnLoop([this] {
    for (int i = 0; i < 100; ++i) SendMessage(*connection_, "a");
  });
  EXPECT_EQ(writes() - before, 1u);
}

TEST_F(ConnectionWritesTest, SendsOfAnotherThreadLeaveWithTheBatchInWhichTheyCome) {
  StartTalking();
  recorder_.on_frame = [this](const Frame& frame) {
    std::thread([&] { SendMessage(*connection_, "from another thread"); }).join();
    SendMessage(*connection_, frame.message());
  };
  const uint64_t before = writes();
  PeerWrites(MessageFrame("one") + MessageFrame("two"));
  EXPECT_EQ(writes() - before, 1u);
  EXPECT_EQ(PeerReads(), MessageFrame("from another thread") + MessageFrame("one") +
                             MessageFrame("from another thread") + MessageFrame("two"));
}

TEST_F(ConnectionWritesTest, WhatIsSentDuringAWriteLeavesWithTheNext) {
  StartTalking();
  const uint64_t before = writes();
  interrupted_->on_write = [this] {
    SendMessage(*connection_, "two");
    SendMessage(*connection_, "three");
  };
  SendMessage(*connection_, "one");
  EXPECT_EQ(writes() - before, 2u);
  EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two") + MessageFrame("three"));
}

TEST_F(ConnectionWritesTest, AWriteUnderWayDoesNotHoldUpClosing) {
  StartTalking();
  interrupted_->on_write = [this] {
    OnLoop([this] { connection_->Close(absl::CancelledError("enough")); });
    EXPECT_THAT(events(), ElementsAre("closed CANCELLED: enough"));
    // The loop need not run again.
    EXPECT_EQ(PeerReads(), MessageFrame("one"));
    EXPECT_TRUE(PeerSeesEnd());
  };
  SendMessage(*connection_, "one");
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_F(ConnectionWritesTest, WritingIsFinishedOnlyWhenNobodyWrites) {
  StartTalking();
  interrupted_->on_write = [this] {
    connection_->FinishWriting();
    loop_->RunUntilIdle();
  };
  SendMessage(*connection_, "one");
  loop_->RunUntilIdle();
  EXPECT_EQ(PeerReads(), MessageFrame("one"));
  EXPECT_TRUE(PeerSeesEnd());
}

TEST_F(ConnectionWritesTest, IsNotHeldUpByRoomThatCameDuringTheWriteThatFoundNone) {
  capacity_ = 16;
  StartTalking();
  SendMessage(*connection_, "0123");
  EXPECT_EQ(connection_->waiting_output(), 0u);
  std::string received;
  interrupted_->on_write = [&] { received = PeerReads(); };
  SendMessage(*connection_, "4567");
  loop_->RunUntilIdle();
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_EQ(received + PeerReads(), MessageFrame("0123") + MessageFrame("4567"));
}

TEST_F(ConnectionWritesTest, OneBusyPeerDoesNotKeepTheLoop) {
  FaultyStream::Faults faults;
  faults.max_read = 1;
  StartTalking();
  int reads_before_task = 0;
  recorder_.on_frame = [&](const Frame&) {
    if (events().size() == 1) loop_->Post([&] { reads_before_task = recorder_.reads; });
  };
  OnLoop([&] { stream_->SetFaults(faults); });
  recorder_.reads = 0;
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += MessageFrame("");
  PeerWrites(bytes);
  EXPECT_EQ(events().size(), 100u);
  EXPECT_LE(reads_before_task, 32);
}

TEST_F(ConnectionWritesTest, OnePeerThatSendsMuchDoesNotKeepTheLoop) {
  capacity_ = 10'000'000;
  StartTalking();
  size_t frames_before_task = 0;
  recorder_.on_frame = [&](const Frame&) {
    if (events().size() == 1) loop_->Post([&] { frames_before_task = events().size(); });
  };
  std::string bytes;
  for (int i = 0; i < 100; ++i) bytes += MessageFrame(std::string(50'000, 'a'));
  PeerWrites(bytes);
  EXPECT_EQ(events().size(), 100u);
  // 256 KiB, which is one read, and less than a frame.
  EXPECT_LE(frames_before_task, 6u);
}

TEST(ConnectionsOfALoopTest, AnswersLeaveBeforeAnotherConnectionIsRead) {
  const std::unique_ptr<EventLoop> loop = NewLoop();
  Recorder recorders[2];
  std::unique_ptr<ByteStream> peers[2];
  std::shared_ptr<Connection> connections[2];
  for (int i = 0; i < 2; ++i) {
    StreamPair pair = NewStreamPair(StreamKind::kUnix);
    peers[i] = std::move(pair.second);
    connections[i] = Connection::Create({}, *loop, recorders[i], std::move(pair.first));
    recorders[i].connection = connections[i].get();
    RunIn(*loop, [&] { connections[i]->Start(); });
    WriteTo(*peers[i], Preface());
  }
  loop->RunUntilIdle();
  for (const std::unique_ptr<ByteStream>& peer : peers) EXPECT_EQ(ReadFrom(*peer), Preface());
  // By each connection's peer, when the other is read.
  std::string received[2];
  for (int i = 0; i < 2; ++i) {
    recorders[i].on_frame = [&, i](const Frame& frame) {
      received[1 - i] = ReadFrom(*peers[1 - i]);
      SendMessage(*connections[i], frame.message());
    };
    WriteTo(*peers[i], MessageFrame("hello"));
  }
  loop->RunUntilIdle();
  // One of the two is read first, and the other sees its answer.
  EXPECT_EQ(received[0] + received[1], MessageFrame("hello"));
  RunIn(*loop, [&] {
    for (const std::shared_ptr<Connection>& connection : connections) {
      connection->Close(absl::CancelledError("enough"));
    }
  });
}

// ---------------------------------------------------------------- What a batch gathers

class ConnectionBatchTest : public ConnectionFixture {
 protected:
  // Sends a frame on another thread, and waits for that thread.
  bool SendElsewhere(absl::string_view body) {
    bool sent = false;
    std::thread([&] { sent = SendMessage(*connection_, body); }).join();
    return sent;
  }

  // Has the connection do `task` in the middle of a batch.
  void InBatch(std::function<void()> task) {
    recorder_.on_frame = [task = std::move(task)](const Frame&) { task(); };
    PeerWrites(MessageFrame("go"));
    recorder_.on_frame = nullptr;
  }
};

TEST_F(ConnectionBatchTest, WhatHappensBeforeIsSentBefore) {
  // Who sends: the loop (l), another thread (t), and output that leaves in between (!).
  for (const std::string order : {"l", "t", "lt", "tl", "ltl", "tlt", "lltt", "ttll", "ltltlt", "l!t", "t!l",
                                  "lt!lt", "tl!tl!lt", "!", "!l!t!"}) {
    SCOPED_TRACE(order);
    StartTalking();
    std::string expected;
    InBatch([&] {
      for (size_t i = 0; i < order.size(); ++i) {
        const std::string body = absl::StrCat(order.substr(0, i + 1));
        if (order[i] == '!') {
          connection_->FlushNow();
          continue;
        }
        EXPECT_TRUE(order[i] == 'l' ? SendMessage(*connection_, body) : SendElsewhere(body));
        expected += MessageFrame(body);
      }
    });
    EXPECT_EQ(PeerReads(), expected);
    // And the next batch begins anew.
    InBatch([&] { SendMessage(*connection_, "next"); });
    EXPECT_EQ(PeerReads(), MessageFrame("next"));
    OnLoop([this] { connection_->Close(absl::OkStatus()); });
    recorder_.events.clear();
  }
  StartTalking();
}

TEST_F(ConnectionBatchTest, ComesBehindWhatTheStreamHasNotTakenYet) {
  StartTalking();
  SetFaults({.stall_writes = true});
  std::string expected;
  for (const char* body : {"before", "and before"}) {
    SendMessage(*connection_, body);
    expected += MessageFrame(body);
  }
  for (int batch = 0; batch < 3; ++batch) {
    InBatch([&] {
      SendMessage(*connection_, "loop");
      SendElsewhere("thread");
      SendMessage(*connection_, "loop again");
    });
    for (const char* body : {"loop", "thread", "loop again"}) expected += MessageFrame(body);
    EXPECT_EQ(connection_->waiting_output(), expected.size());
  }
  EXPECT_EQ(PeerReads(), "");
  SetFaults({});
  loop_->RunUntilIdle();
  EXPECT_EQ(PeerReads(), expected);
}

TEST_F(ConnectionBatchTest, CountsAllThatWaits) {
  StartTalking();
  const size_t frame = MessageFrame("12345").size();
  InBatch([&] {
    EXPECT_EQ(connection_->waiting_output(), 0u);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), frame);
    SendElsewhere("12345");
    EXPECT_EQ(connection_->waiting_output(), 2 * frame);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), 3 * frame);
    connection_->FlushNow();
    EXPECT_EQ(connection_->waiting_output(), 0u);
    SendMessage(*connection_, "12345");
    EXPECT_EQ(connection_->waiting_output(), frame);
  });
  EXPECT_EQ(connection_->waiting_output(), 0u);
}

TEST_F(ConnectionBatchTest, IsNotPolledFromAWriteOfAnotherThreadUntilThereIsNews) {
  StartTalking();
  EXPECT_TRUE(interrupted_->pollable());
  OnLoop([this] { SendMessage(*connection_, "loop"); });
  EXPECT_TRUE(interrupted_->pollable());
  SendElsewhere("thread");
  EXPECT_FALSE(interrupted_->pollable());
  PeerWrites(MessageFrame("news"));
  EXPECT_TRUE(interrupted_->pollable());
}

TEST_F(ConnectionBatchTest, MuchOutputDoesNotWaitForItsEnd) {
  capacity_ = 1024 * 1024;
  StartTalking();
  // Four answers are more than 64 KiB.
  const std::string answer(16 * 1024, 'x');
  std::vector<uint64_t> writes_before;
  const uint64_t start = writes();
  recorder_.on_frame = [&](const Frame&) {
    writes_before.push_back(writes() - start);
    SendMessage(*connection_, answer);
  };
  std::string input;
  for (int i = 0; i < 10; ++i) input += MessageFrame("");
  PeerWrites(input);
  EXPECT_THAT(writes_before, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 2, 2));
  EXPECT_EQ(writes() - start, 3u);
  EXPECT_EQ(PeerReads().size(), 10 * MessageFrame(answer).size());
}

TEST_F(ConnectionBatchTest, MayFinishWritingInItsMiddle) {
  for (const bool elsewhere : {false, true}) {
    SCOPED_TRACE(elsewhere);
    StartTalking();
    InBatch([&] {
      SendMessage(*connection_, "one");
      SendElsewhere("two");
      SendMessage(*connection_, "three");
      if (elsewhere) {
        std::thread([&] { connection_->FinishWriting(); }).join();
      } else {
        connection_->FinishWriting();
      }
      EXPECT_FALSE(SendMessage(*connection_, "too late"));
      EXPECT_FALSE(SendElsewhere("too late"));
    });
    EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two") + MessageFrame("three"));
    EXPECT_TRUE(PeerSeesEnd());
    OnLoop([this] { connection_->Close(absl::OkStatus()); });
    recorder_.events.clear();
  }
  StartTalking();
}

TEST_F(ConnectionBatchTest, CloseDropsWhatItHasGathered) {
  StartTalking();
  InBatch([&] {
    SendMessage(*connection_, "one");
    SendElsewhere("two");
    connection_->Close(absl::CancelledError("enough"));
    EXPECT_EQ(connection_->waiting_output(), 0u);
    EXPECT_FALSE(SendMessage(*connection_, "three"));
  });
  EXPECT_EQ(PeerReads(), "");
  EXPECT_TRUE(PeerSeesEnd());
  EXPECT_THAT(events().back(), "closed CANCELLED: enough");
}

TEST_F(ConnectionBatchTest, FlushNowSavesFromClose) {
  StartTalking();
  InBatch([&] {
    SendMessage(*connection_, "one");
    SendElsewhere("two");
    connection_->FlushNow();
    connection_->Close(absl::CancelledError("enough"));
  });
  EXPECT_EQ(PeerReads(), MessageFrame("one") + MessageFrame("two"));
}

TEST_F(ConnectionBatchTest, AWriteErrorOfAnotherThreadDropsWhatItHasGathered) {
  StartTalking();
  SetFaults({.fail_writes_after = 0});
  absl::Notification writing, appended;
  interrupted_->on_write = [&] {
    writing.Notify();
    appended.WaitForNotification();
  };
  std::thread other([&] { EXPECT_TRUE(SendMessage(*connection_, "fails")); });
  writing.WaitForNotification();
  InBatch([&] {
    EXPECT_TRUE(SendMessage(*connection_, "one"));
    appended.Notify();
    other.join();
    EXPECT_FALSE(SendMessage(*connection_, "two"));
    EXPECT_FALSE(SendElsewhere("three"));
  });
  EXPECT_EQ(connection_->waiting_output(), 0u);
  EXPECT_THAT(events(), ElementsAre("frame go", StartsWith("closed UNAVAILABLE")));
  EXPECT_EQ(PeerReads(), "");
}

}  // namespace
}  // namespace ferry::transport
