#include "tests/simulation/served_call.h"

#include <type_traits>

namespace ferry::simulation {

void ServedCall::Begin() {
  if (!habits_.watches_cancel) return;
  context().OnCancel([self = weak_from_this()] {
    if (const std::shared_ptr<ServedCall> call = self.lock()) call->OnCancel();
  });
}

void ServedCall::OnCancel() {
  ledger_.OnCancelled(record_);
  if (habits_.answers_at_cancel) Fail(absl::CancelledError("the handler has seen that it is cancelled"));
}

ServerContext& ServedCall::context() {
  return *std::visit(
      [](auto& handle) -> ServerContext* {
        if constexpr (std::is_same_v<std::decay_t<decltype(handle)>, std::monostate>) {
          return nullptr;
        } else {
          return &handle.context();
        }
      },
      handle_);
}

StreamReader<Message> ServedCall::reader() {
  if (const Upload* upload = std::get_if<Upload>(&handle_)) return upload->requests();
  return std::get<Talk>(handle_).requests();
}

StreamWriter<Message> ServedCall::writer() {
  if (const Watch* watch = std::get_if<Watch>(&handle_)) return watch->replies();
  return std::get<Talk>(handle_).replies();
}

bool ServedCall::Write(size_t size) {
  if (!has_writer() || write_pending_) return false;
  const uint64_t index = record_.replies_written++;
  Message message;
  message.set_call(record_.id);
  message.set_index(index);
  message.set_payload(Payload(record_.id, true, index, size));
  if (habits_.callbacks) {
    write_pending_ = true;
    writer().Write(message, [self = shared_from_this()](bool written) {
      self->write_pending_ = false;
      if (!written) --self->record_.replies_written;
    });
    return true;
  }
  const WriteResult result = writer().TryWrite(message);
  if (result != WriteResult::kWritten) --record_.replies_written;
  if (result == WriteResult::kFull) {
    write_pending_ = true;
    writer().WhenWritable([self = shared_from_this()] { self->write_pending_ = false; });
  }
  return true;
}

bool ServedCall::Read() {
  if (!has_reader() || read_pending_ || record_.requests_read_to_end) return false;
  if (habits_.callbacks) {
    read_pending_ = true;
    reader().Read(incoming_, [self = shared_from_this()](bool message) {
      self->read_pending_ = false;
      self->OnRead(message);
    });
    return true;
  }
  switch (reader().TryRead(incoming_)) {
    case ReadResult::kMessage:
      ledger_.OnRequest(record_, incoming_);
      break;
    case ReadResult::kEnd:
      ledger_.OnRequestsEnd(record_, context().cancelled());
      break;
    case ReadResult::kNothing:
      read_pending_ = true;
      reader().WhenReadable([self = shared_from_this()] { self->read_pending_ = false; });
      break;
  }
  return true;
}

void ServedCall::OnRead(bool message) {
  if (message) ledger_.OnRequest(record_, incoming_);
  // What it is told after its answer says nothing of the requests.
  if (answered()) return;
  if (!message) ledger_.OnRequestsEnd(record_, context().cancelled());
  if (message && habits_.reads_on-- > 0) Read();
}

bool ServedCall::Answer(size_t size) {
  if (answered()) return false;
  Message* reply = nullptr;
  uint64_t digest = record_.requests_read;
  if (const Unary* unary = std::get_if<Unary>(&handle_)) {
    reply = &unary->reply();
    digest = Digest(unary->request().payload());
  } else if (const Upload* upload = std::get_if<Upload>(&handle_)) {
    reply = &upload->reply();
  }
  if (reply != nullptr) {
    reply->Clear();
    reply->set_call(record_.id);
    reply->set_digest(digest);
    reply->set_payload(Payload(record_.id, true, 0, size));
  }
  Finish(absl::OkStatus());
  return true;
}

bool ServedCall::Fail(const absl::Status& why) {
  if (answered()) return false;
  Finish(why);
  return true;
}

bool ServedCall::Drop() {
  if (answered()) return false;
  ledger_.OnAnswer(record_, absl::InternalError("the handler dropped the call without finishing it"));
  const Handle dropped = std::exchange(handle_, std::monostate());
  return true;
}

void ServedCall::Finish(const absl::Status& status) {
  ledger_.OnAnswer(record_, status);
  std::visit(
      [&status](auto handle) {
        if constexpr (!std::is_same_v<decltype(handle), std::monostate>) std::move(handle).Finish(status);
      },
      std::exchange(handle_, std::monostate()));
}

void ServedCall::Settle() {
  while (Read() && !read_pending_) {
  }
  if (!has_reader() || record_.requests_read_to_end) Answer(8);
}

}  // namespace ferry::simulation
