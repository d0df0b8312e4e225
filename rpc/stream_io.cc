#include "ferry/rpc/stream_io.h"

namespace ferry {

bool ReadAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  Stream::Waiter waiter = stream_.Posting([this] {
    taken_ = stream_.TryRead(message_);
    resumption_.Resume();
  });
  if (!stream_.WhenReadable(waiter)) waiter();
  return resumption_.Suspend(coroutine);
}

bool WriteAwaiter::await_suspend(std::coroutine_handle<> coroutine) {
  Stream::Waiter waiter = stream_.Posting([this] {
    wrote_ = stream_.TryWrite(message_);
    resumption_.Resume();
  });
  if (!stream_.WhenWritable(waiter)) waiter();
  return resumption_.Suspend(coroutine);
}

}  // namespace ferry
