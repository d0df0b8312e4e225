#include "ferry/rpc/call_recycler.h"

#include <utility>

namespace ferry {
namespace {

// Messages that were larger than this on the wire are not kept: one large call must not hold memory for ever.
constexpr size_t kMaxKeptBytes = 32 * 1024;

}  // namespace

CallRecycler::~CallRecycler() {
  Destroy(free_);
  Destroy(returned_.load(std::memory_order_acquire));
}

void CallRecycler::Destroy(ServerCall* list) {
  while (list != nullptr) {
    const std::unique_ptr<ServerCall> call(list);
    list = call->next_free;
  }
}

ServerCall& CallRecycler::Take() {
  if (free_ == nullptr) free_ = returned_.exchange(nullptr, std::memory_order_acquire);
  if (free_ == nullptr) {
    std::unique_ptr<ServerCall> call = new_call_();
    call->recycler = this;
    return *call.release();
  }
  ServerCall& call = *free_;
  free_ = std::exchange(call.next_free, nullptr);
  return call;
}

void CallRecycler::Return(ServerCall& call, size_t bytes, bool in_loop) {
  if (bytes > kMaxKeptBytes) {
    call.DropMessages();
  } else {
    // Parsing clears the request.
    call.reply_message().Clear();
  }
  call.not_executed = false;
  call.initial_metadata_sent = false;
  if (call.request_fragments.active()) call.request_fragments.Reset();
  if (in_loop) {
    call.next_free = std::exchange(free_, &call);
    return;
  }
  call.next_free = returned_.load(std::memory_order_relaxed);
  while (!returned_.compare_exchange_weak(call.next_free, &call, std::memory_order_release,
                                          std::memory_order_relaxed)) {
  }
}

}  // namespace ferry
