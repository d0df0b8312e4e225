#include "tests/simulation/caller_stream.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ferry::simulation {

CallerStream::CallerStream(Ledger& ledger, CallRecord& record, const Habits& habits,
                           const std::shared_ptr<ClientStreamCall>& call)
    : ledger_(ledger), record_(record), habits_(habits) {
  if (record.kind == CallKind::kWatch) watch_.emplace(call);
  if (record.kind == CallKind::kUpload) upload_.emplace(call);
  if (record.kind == CallKind::kTalk) talk_.emplace(call);
}

ClientStreamHandle& CallerStream::handle() {
  if (watch_.has_value()) return *watch_;
  if (upload_.has_value()) return *upload_;
  return *talk_;
}

StreamReader<Message>* CallerStream::reader() {
  if (watch_.has_value()) return &*watch_;
  return talk_.has_value() ? &*talk_ : nullptr;
}

StreamWriter<Message>* CallerStream::writer() {
  if (upload_.has_value()) return &*upload_;
  return talk_.has_value() ? &*talk_ : nullptr;
}

bool CallerStream::Write(size_t size) {
  if (writer() == nullptr || write_pending_ || record_.requests_ended || record_.asked_for_status)
    return false;
  const uint64_t index = record_.requests_written++;
  Message message;
  message.set_call(record_.id);
  message.set_index(index);
  message.set_payload(Payload(record_.id, false, index, size));
  if (habits_.callbacks) {
    write_pending_ = true;
    writer()->Write(message, [self = shared_from_this()](bool written) {
      self->write_pending_ = false;
      if (!written) --self->record_.requests_written;
    });
    return true;
  }
  const WriteResult result = writer()->TryWrite(message);
  if (result != WriteResult::kWritten) --record_.requests_written;
  if (result == WriteResult::kFull) {
    write_pending_ = true;
    writer()->WhenWritable([self = shared_from_this()] { self->write_pending_ = false; });
  }
  return true;
}

bool CallerStream::Read() {
  if (reader() == nullptr || read_pending_ || record_.replies_read_to_end || record_.asked_for_status) {
    return false;
  }
  if (habits_.callbacks) {
    read_pending_ = true;
    reader()->Read(incoming_, [self = shared_from_this()](bool message) {
      self->read_pending_ = false;
      self->OnRead(message);
    });
    return true;
  }
  switch (reader()->TryRead(incoming_)) {
    case ReadResult::kMessage:
      ledger_.OnReply(record_, incoming_);
      break;
    case ReadResult::kEnd:
      ledger_.OnRepliesEnd(record_);
      break;
    case ReadResult::kNothing:
      read_pending_ = true;
      reader()->WhenReadable([self = shared_from_this()] { self->read_pending_ = false; });
      break;
  }
  return true;
}

void CallerStream::OnRead(bool message) {
  // What it is told after it has stopped reading says nothing of the replies.
  if (message) ledger_.OnReply(record_, incoming_);
  if (!message && has_handle() && !record_.asked_for_status) ledger_.OnRepliesEnd(record_);
  if (++callback_reads_ == habits_.drops_at_read) Drop();
  if (message && habits_.reads_on-- > 0) Read();
}

bool CallerStream::WritesDone() {
  if (!talk_.has_value() || record_.requests_ended || record_.asked_for_status) return false;
  record_.requests_ended = true;
  talk_->WritesDone();
  return true;
}

bool CallerStream::Finish() {
  if (!has_handle() || record_.asked_for_status) return false;
  record_.asked_for_status = true;
  if (writer() != nullptr) record_.requests_ended = true;
  auto on_end = [self = shared_from_this()](const absl::Status& status) { self->OnEnd(status, nullptr); };
  if (watch_.has_value()) watch_->Finish(on_end);
  if (talk_.has_value()) talk_->Finish(on_end);
  if (upload_.has_value()) {
    upload_->Finish([self = shared_from_this()](const absl::StatusOr<Message>& reply) {
      self->OnEnd(reply.status(), reply.ok() ? &*reply : nullptr);
    });
  }
  return true;
}

void CallerStream::OnEnd(const absl::Status& status, const Message* reply) {
  ledger_.OnEnd(record_, status, reply);
}

bool CallerStream::Cancel() {
  if (!has_handle()) return false;
  record_.cancelled = true;
  handle().Cancel();
  return true;
}

bool CallerStream::Drop() {
  if (!has_handle()) return false;
  record_.cancelled = true;
  watch_.reset();
  upload_.reset();
  talk_.reset();
  return true;
}

void CallerStream::Settle() {
  if (!has_handle()) return;
  if (record_.ends > 0) {
    Drop();
    return;
  }
  if (!write_pending_) WritesDone();
  while (Read() && !read_pending_) {
  }
  if (reader() == nullptr || record_.replies_read_to_end) Finish();
}

}  // namespace ferry::simulation
