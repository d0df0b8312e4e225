// Key-value pairs that travel beside a call's messages.
#ifndef FERRY_RPC_METADATA_H_
#define FERRY_RPC_METADATA_H_

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace ferry {

// A Metadata is an ordered list of key-value pairs; a key may occur several times.
//
// Keys are 1 to 128 characters of a-z, 0-9, '-', '_' and '.'; those that begin with "ferry-" are the
// protocol's own. Values are any bytes (PROTOCOL.md section 8). An empty Metadata owns no memory.
//
// Thread-compatible.
class Metadata {
 public:
  using Entry = std::pair<std::string, std::string>;

  Metadata() = default;
  Metadata(std::initializer_list<Entry> entries) : entries_(entries) {}

  // Appends one pair. A key that is not well-formed is found when the call is sent: Validate().
  void Add(std::string_view key, std::string_view value) { entries_.emplace_back(key, value); }

  // The value of the first pair with this key, or nullptr. Valid until the Metadata changes.
  const std::string* Find(std::string_view key) const;

  // Every pair, in the order they were added.
  const std::vector<Entry>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }
  void Clear() { entries_.clear(); }

  // INVALID_ARGUMENT, with the key, if a key is not well-formed or is one of the protocol's own.
  absl::Status Validate() const;

  // INVALID_ARGUMENT, with the key, if it is not well-formed.
  static absl::Status ValidateKey(std::string_view key);

  // Whether a key is one of the protocol's own.
  static bool IsReservedKey(std::string_view key) { return key.starts_with("ferry-"); }

  friend bool operator==(const Metadata&, const Metadata&) = default;

 private:
  std::vector<Entry> entries_;
};

}  // namespace ferry

#endif  // FERRY_RPC_METADATA_H_
