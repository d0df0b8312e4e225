#include "ferry/transport/buffer_pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "ferry/transport/check.h"
#include "ferry/transport/mutex.h"

namespace ferry::transport {

struct alignas(std::max_align_t) Block::Header {
  Header(size_t size_index, size_t capacity)
      : size_index(static_cast<uint32_t>(size_index)), capacity(capacity) {}

  std::atomic<uint32_t> references{1};
  const uint32_t size_index;  // among the sizes that are kept; kNotKept for others
  const size_t capacity;
  // Keeps the core alive while the block is out of it: in use, or in a cache. Empty inside the core.
  std::shared_ptr<BufferPool::Core> core;
  Header* next = nullptr;  // in a cache, or in a chain on its way between cache and core
  Instant returned;        // to the core

  char* bytes() { return reinterpret_cast<char*>(this + 1); }
};

namespace {

using Header = Block::Header;

constexpr size_t kSizes = std::bit_width(BufferPool::kMaxBlock) - std::bit_width(BufferPool::kMinBlock) + 1;
constexpr size_t kNotKept = kSizes;

size_t SizeIndex(size_t size) {
  if (size > BufferPool::kMaxBlock) return kNotKept;
  const size_t capacity = std::bit_ceil(std::max(size, BufferPool::kMinBlock));
  return std::bit_width(capacity) - std::bit_width(BufferPool::kMinBlock);
}

Header* NewBlock(size_t size_index, size_t size) {
  const size_t capacity = size_index == kNotKept ? size : BufferPool::kMinBlock << size_index;
  void* memory = ::operator new(sizeof(Header) + capacity);
  return new (memory) Header(size_index, capacity);
}

void FreeChain(Header* chain) {
  while (chain != nullptr) {
    Header* next = chain->next;
    chain->~Header();
    ::operator delete(chain);
    chain = next;
  }
}

thread_local BlockCache* bound_cache = nullptr;

}  // namespace

// A Core is the part of a pool that its blocks keep alive: the kept blocks and the counts.
//
// Thread-safe. Dies with the last of: its pool, and the blocks that are out of it.
class BufferPool::Core {
 public:
  explicit Core(const Options& options)
      : max_age_(options.max_age), clock_(*options.clock), max_kept_bytes_(options.max_kept_bytes) {}
  ~Core() { Discard(Instant::Infinite()); }

  // A chain of 1 to `count` blocks of at least `size` bytes; `self` is this.
  Header* Take(const std::shared_ptr<Core>& self, size_t size, size_t count);

  // Takes in a chain of blocks of one core; unless the pool is still there, that may be the core's end.
  static void Return(Header* chain);

  void Trim() { Discard(clock_.Now() + -max_age_); }
  void StopKeeping();

  void AddCache(const std::atomic<size_t>* kept_bytes);
  void RemoveCache(const std::atomic<size_t>* kept_bytes);

  Stats stats() const;

 private:
  Header* TakeKept(size_t size_index, size_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayKeep(const Header& header) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives back to the heap what was returned at `limit` or before.
  void Discard(Instant limit);

  const absl::Duration max_age_;
  const Clock& clock_;

  mutable Mutex mutex_;
  size_t max_kept_bytes_ ABSL_GUARDED_BY(mutex_);
  // For each size the blocks kept, the last returned at the back.
  std::array<std::vector<Header*>, kSizes> kept_ ABSL_GUARDED_BY(mutex_);
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t heap_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // in all blocks, wherever they are
  uint64_t heap_allocations_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<const std::atomic<size_t>*> cache_bytes_ ABSL_GUARDED_BY(mutex_);
};

Header* BufferPool::Core::Take(const std::shared_ptr<Core>& self, size_t size, size_t count) {
  const size_t size_index = SizeIndex(size);
  Header* chain = nullptr;
  {
    MutexLock lock(mutex_);
    if (size_index != kNotKept) chain = TakeKept(size_index, count);
    if (chain == nullptr) {
      heap_bytes_ += size_index == kNotKept ? size : kMinBlock << size_index;
      ++heap_allocations_;
    }
  }
  if (chain == nullptr) chain = NewBlock(size_index, size);
  for (Header* header = chain; header != nullptr; header = header->next) header->core = self;
  return chain;
}

Header* BufferPool::Core::TakeKept(size_t size_index, size_t count) {
  std::vector<Header*>& kept = kept_[size_index];
  Header* chain = nullptr;
  for (count = std::min(count, kept.size()); count > 0; --count) {
    kept.back()->next = chain;
    chain = kept.back();
    kept.pop_back();
    kept_bytes_ -= chain->capacity;
  }
  return chain;
}

bool BufferPool::Core::MayKeep(const Header& header) const {
  return kKeepsBlocks && header.size_index != kNotKept && kept_bytes_ + header.capacity <= max_kept_bytes_;
}

void BufferPool::Core::Return(Header* chain) {
  if (chain == nullptr) return;
  const std::shared_ptr<Core> core = chain->core;
  const Instant now = core->clock_.Now();
  Header* surplus = nullptr;
  {
    MutexLock lock(core->mutex_);
    while (chain != nullptr) {
      Header* header = std::exchange(chain, chain->next);
      header->core.reset();
      if (core->MayKeep(*header)) {
        header->returned = now;
        core->kept_[header->size_index].push_back(header);
        core->kept_bytes_ += header->capacity;
      } else {
        core->heap_bytes_ -= header->capacity;
        header->next = std::exchange(surplus, header);
      }
    }
  }
  FreeChain(surplus);
}

void BufferPool::Core::StopKeeping() {
  {
    MutexLock lock(mutex_);
    max_kept_bytes_ = 0;
  }
  Discard(Instant::Infinite());
}

void BufferPool::Core::Discard(Instant limit) {
  Header* surplus = nullptr;
  {
    MutexLock lock(mutex_);
    for (std::vector<Header*>& kept : kept_) {
      size_t old = 0;
      for (; old < kept.size() && kept[old]->returned <= limit; ++old) {
        kept_bytes_ -= kept[old]->capacity;
        heap_bytes_ -= kept[old]->capacity;
        kept[old]->next = std::exchange(surplus, kept[old]);
      }
      kept.erase(kept.begin(), kept.begin() + old);
    }
  }
  FreeChain(surplus);
}

void BufferPool::Core::AddCache(const std::atomic<size_t>* kept_bytes) {
  MutexLock lock(mutex_);
  cache_bytes_.push_back(kept_bytes);
}

void BufferPool::Core::RemoveCache(const std::atomic<size_t>* kept_bytes) {
  MutexLock lock(mutex_);
  std::erase(cache_bytes_, kept_bytes);
}

BufferPool::Stats BufferPool::Core::stats() const {
  MutexLock lock(mutex_);
  Stats stats;
  stats.kept_bytes = kept_bytes_;
  for (const std::atomic<size_t>* bytes : cache_bytes_)
    stats.kept_bytes += bytes->load(std::memory_order_relaxed);
  // A cache may be ahead of the rest by the time it is asked.
  stats.kept_bytes = std::min(stats.kept_bytes, heap_bytes_);
  stats.used_bytes = heap_bytes_ - stats.kept_bytes;
  stats.heap_allocations = heap_allocations_;
  return stats;
}

Block::Block(const Block& other) : header_(other.header_) {
  if (header_ != nullptr) header_->references.fetch_add(1, std::memory_order_relaxed);
}

Block::~Block() {
  if (header_ == nullptr) return;
  // The last reference sees what was done under those dropped before it: acquire pairs with their release.
  // Whoever sees 1 holds the only reference, so that nobody can add one: no atomic read-modify-write is
  // needed then.
  if (header_->references.load(std::memory_order_acquire) != 1 &&
      header_->references.fetch_sub(1, std::memory_order_acq_rel) != 1) {
    return;
  }
  if (bound_cache == nullptr || !bound_cache->Keep(header_)) {
    header_->next = nullptr;
    BufferPool::Core::Return(header_);
  }
}

char* Block::data() const { return header_->bytes(); }

size_t Block::capacity() const { return header_->capacity; }

bool Block::unique() const { return header_->references.load(std::memory_order_acquire) == 1; }

absl::Cord MakeCord(Block block, absl::string_view part) {
  return absl::MakeCordFromExternal(part, [block = std::move(block)] {});
}

BufferPool::BufferPool(const Options& options)
    : max_age_(options.max_age), core_(std::make_shared<Core>(options)) {}

BufferPool::~BufferPool() { core_->StopKeeping(); }

Block BufferPool::Allocate(size_t size) {
  Header* header = core_->Take(core_, size, 1);
  header->references.store(1, std::memory_order_relaxed);
  return Block(header);
}

void BufferPool::Trim() { core_->Trim(); }

BufferPool::Stats BufferPool::stats() const { return core_->stats(); }

BlockCache::Binding::Binding(BlockCache& cache) : previous_(std::exchange(bound_cache, &cache)) {}

BlockCache::Binding::~Binding() { bound_cache = previous_; }

BlockCache::BlockCache(BufferPool& pool) : pool_(&pool) {
  static_assert(BlockCache::kSizes == transport::kSizes);
  pool_->core()->AddCache(&kept_bytes_);
}

BlockCache::~BlockCache() {
  FERRY_CHECK(bound_cache != this, "a bound cache is destroyed");
  Flush();
  pool_->core()->RemoveCache(&kept_bytes_);
}

size_t BlockCache::MaxKept(size_t size_index) {
  constexpr size_t kMaxNumber = 16;
  constexpr size_t kMaxBytes = 256 * 1024;
  return std::clamp<size_t>(kMaxBytes / (BufferPool::kMinBlock << size_index), 1, kMaxNumber);
}

Block BlockCache::Allocate(size_t size) {
  const size_t size_index = SizeIndex(size);
  if (size_index == kNotKept) return pool_->Allocate(size);
  List& list = kept_[size_index];
  if (list.first == nullptr) {
    const size_t count = std::max<size_t>(MaxKept(size_index) / 2, 1);
    Header* chain = pool_->core()->Take(pool_->core(), size, count);
    while (chain != nullptr) Push(list, std::exchange(chain, chain->next));
  }
  Header* header = Pop(list);
  header->references.store(1, std::memory_order_relaxed);
  return Block(header);
}

bool BlockCache::Keep(Block::Header* header) {
  if (!BufferPool::kKeepsBlocks || header->core != pool_->core() || header->size_index == kNotKept)
    return false;
  List& list = kept_[header->size_index];
  const size_t max_kept = MaxKept(header->size_index);
  if (list.count == max_kept) ReturnToPool(list, (max_kept + 1) / 2);
  Push(list, header);
  return true;
}

void BlockCache::Flush() {
  for (List& list : kept_) ReturnToPool(list, list.count);
}

void BlockCache::Push(List& list, Block::Header* header) {
  header->next = list.first;
  list.first = header;
  ++list.count;
  kept_bytes_.store(kept_bytes_.load(std::memory_order_relaxed) + header->capacity,
                    std::memory_order_relaxed);
}

Block::Header* BlockCache::Pop(List& list) {
  Header* header = std::exchange(list.first, list.first->next);
  --list.count;
  kept_bytes_.store(kept_bytes_.load(std::memory_order_relaxed) - header->capacity,
                    std::memory_order_relaxed);
  return header;
}

void BlockCache::ReturnToPool(List& list, size_t count) {
  Header* chain = nullptr;
  for (; count > 0; --count) {
    Header* header = Pop(list);
    header->next = std::exchange(chain, header);
  }
  BufferPool::Core::Return(chain);
}

}  // namespace ferry::transport
