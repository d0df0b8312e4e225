// Memory for bytes on their way: reference-counted blocks that are used again.
#ifndef FERRY_TRANSPORT_BUFFER_POOL_H_
#define FERRY_TRANSPORT_BUFFER_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/config.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "ferry/transport/clock.h"

namespace ferry::transport {

class BufferPool;
class BlockCache;

// A Block is a counted reference to a piece of writable memory of a BufferPool; the last reference returns
// the memory.
//
// A value. References may be copied and dropped by any thread; who may write where is up to those who hold
// them.
class Block {
 public:
  // What lies in front of the bytes; known to the pool only.
  struct Header;

  Block() = default;
  // For the pool: takes over one reference.
  explicit Block(Header* header) : header_(header) {}
  Block(const Block& other);
  Block(Block&& other) noexcept : header_(std::exchange(other.header_, nullptr)) {}
  Block& operator=(Block other) noexcept {
    std::swap(header_, other.header_);
    return *this;
  }
  ~Block();

  explicit operator bool() const { return header_ != nullptr; }
  // REQUIRES: not empty.
  char* data() const;
  // A power of two from BufferPool::kMinBlock to kMaxBlock, or what was asked for if that is more.
  size_t capacity() const;
  // Whether this is the only reference, so that the memory may be used anew.
  bool unique() const;

 private:
  Header* header_ = nullptr;
};

// `part`, which lies in `block`, as a Cord that keeps the block: no bytes are copied.
absl::Cord MakeCord(Block block, absl::string_view part);

// A BufferPool hands out blocks and keeps returned ones for the next who asks.
//
// Thread-safe, behind one mutex; a BlockCache spares its owner that. The pool must outlive its caches; blocks
// may outlive the pool, and go back to the heap then. Every byte handed out or kept is counted.
class BufferPool {
 public:
  // What pool and blocks share; known to the pool only.
  class Core;

#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  // Every block goes back to the heap at once, so that its use after that is seen.
  static constexpr bool kKeepsBlocks = false;
#else
  static constexpr bool kKeepsBlocks = true;
#endif
  static constexpr size_t kMinBlock = 4 * 1024;
  static constexpr size_t kMaxBlock = 1024 * 1024;

  struct Options {
    // Returned blocks beyond this many bytes go back to the heap at once.
    size_t max_kept_bytes = 64 * 1024 * 1024;
    // Blocks that nobody asked for in this long go back to the heap at the next Trim.
    absl::Duration max_age = absl::Seconds(10);
    // Not owned.
    const Clock* clock = &Clock::Real();
  };

  struct Stats {
    size_t used_bytes = 0;          // in blocks handed out
    size_t kept_bytes = 0;          // in blocks returned and kept, caches included
    uint64_t heap_allocations = 0;  // since the pool was made
  };

  explicit BufferPool(const Options& options);
  BufferPool() : BufferPool(Options{}) {}
  ~BufferPool();

  // A block of at least `size` bytes, uninitialised. More than kMaxBlock is allocated exactly and never kept.
  Block Allocate(size_t size);

  // Gives kept blocks older than Options::max_age back to the heap, but for those in caches. An EventLoop
  // does so by itself for the pool of its cache.
  void Trim();
  absl::Duration max_age() const { return max_age_; }

  // While other threads use caches, a moment's approximation.
  Stats stats() const;

  // For caches.
  const std::shared_ptr<Core>& core() const { return core_; }

 private:
  const absl::Duration max_age_;
  std::shared_ptr<Core> core_;
};

// A BlockCache is one thread's small stock of a pool's blocks, taken and refilled without a lock or an atomic
// instruction shared between threads. It keeps at most kMaxKept blocks of each size.
//
// Thread-compatible: an event loop owns one. Blocks taken from it may be dropped by any thread: those whose
// last reference ends on a thread with a Binding to a cache of the same pool go to that cache, others to the
// pool.
class BlockCache {
 public:
  // Makes a cache the one for blocks that end on this thread, instead of another that was bound before, for
  // as long as it lives.
  class Binding {
   public:
    explicit Binding(BlockCache& cache);
    ~Binding();
    Binding(const Binding&) = delete;
    Binding& operator=(const Binding&) = delete;

   private:
    BlockCache* const previous_;
  };

  explicit BlockCache(BufferPool& pool);
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // As BufferPool::Allocate.
  Block Allocate(size_t size);
  BufferPool& pool() { return *pool_; }

  // Gives the stock to the pool, which will trim it in time: for a thread that has nothing to do for a while.
  void Flush();

  bool empty() const { return kept_bytes_.load(std::memory_order_relaxed) == 0; }

  // For ~Block: takes a block that nobody refers to any more, if it is of this cache's pool and of a size
  // that is kept.
  bool Keep(Block::Header* header);

 private:
  static constexpr size_t kSizes = 9;  // 4 KiB, 8 KiB .. 1 MiB
  // The number of blocks of a size that are kept: those of 16 KiB and less by number, larger ones by bytes.
  static size_t MaxKept(size_t size_index);

  struct List {
    Block::Header* first = nullptr;
    size_t count = 0;
  };

  void Push(List& list, Block::Header* header);
  Block::Header* Pop(List& list);
  void ReturnToPool(List& list, size_t count);

  BufferPool* const pool_;
  List kept_[kSizes];
  // Written by the owner, read by BufferPool::stats: relaxed, since it guards nothing.
  std::atomic<size_t> kept_bytes_{0};
};

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_BUFFER_POOL_H_
