#include "tests/testing/faulty_stream.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ferry::test {
namespace {

using transport::IoResult;

// The first `limit` bytes of `parts`.
std::vector<iovec> Cut(absl::Span<const iovec> parts, uint64_t limit) {
  std::vector<iovec> cut;
  for (const iovec& part : parts) {
    if (limit == 0) break;
    const size_t size = static_cast<size_t>(std::min<uint64_t>(part.iov_len, limit));
    cut.push_back({.iov_base = part.iov_base, .iov_len = size});
    limit -= size;
  }
  return cut;
}

IoResult Failed(const char* what, uint64_t bytes) {
  return IoResult::Failed(absl::UnavailableError(absl::StrCat("a fault after ", bytes, " bytes ", what)));
}

// What moved fewer bytes than it might because of a fault says so: its handler will not be told.
IoResult TryAgain(IoResult result) {
  if (result.state == IoResult::State::kDone) result.more = true;
  return result;
}

}  // namespace

void FaultyStream::SetFaults(const Faults& faults) {
  faults_ = faults;
  if (handler_ != nullptr) handler_->OnReady(true, true);
}

absl::Status FaultyStream::Watch(transport::EventLoop& loop, ReadyHandler& handler) {
  handler_ = &handler;
  return stream_->Watch(loop, handler);
}

void FaultyStream::Close() {
  handler_ = nullptr;
  stream_->Close();
}

IoResult FaultyStream::Read(absl::Span<const iovec> parts) {
  if (bytes_read_ >= faults_.fail_reads_after) return Failed("read", bytes_read_);
  if (bytes_read_ >= faults_.end_reads_after) return IoResult::End();
  if (faults_.stall_reads) return IoResult::WouldBlock();
  const uint64_t left = std::min(faults_.fail_reads_after, faults_.end_reads_after) - bytes_read_;
  IoResult result = stream_->Read(Cut(parts, std::min<uint64_t>(faults_.max_read, left)));
  bytes_read_ += result.bytes;
  return TryAgain(std::move(result));
}

IoResult FaultyStream::Write(absl::Span<const iovec> parts) {
  if (bytes_written_ >= faults_.fail_writes_after) return Failed("written", bytes_written_);
  if (faults_.stall_writes) return IoResult::WouldBlock();
  const uint64_t left = faults_.fail_writes_after - bytes_written_;
  IoResult result = stream_->Write(Cut(parts, std::min<uint64_t>(faults_.max_write, left)));
  bytes_written_ += result.bytes;
  return TryAgain(std::move(result));
}

}  // namespace ferry::test
