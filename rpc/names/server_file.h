// Servers that a file lists.
#ifndef FERRY_RPC_NAMES_SERVER_FILE_H_
#define FERRY_RPC_NAMES_SERVER_FILE_H_

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ferry/rpc/names/resolver.h"

namespace ferry {

// The servers in a file's `text`, in the order in which they stand there; at least one. `path` is for errors.
//
//     # One server a line.
//     10.0.0.1:7000                                          # by its IPv4 or IPv6 address
//     [2001:db8::2]:7000  weight=3  locality=eu/b            # three times the share of the others
//     unix:/run/spare  priority=1                            # or a Unix socket's, as in transport/address.h
//
// An entry is an address and then any of these, in any order: weight, from 1 to 1,000,000, without it 1;
// locality, any text without blanks, without it empty; priority, from 0 to 65,535, the smallest are used
// first, without it 0. A '#' at a line's beginning or after a blank begins a comment. Host names are not
// looked up, and are an error.
//
// INVALID_ARGUMENT, with file:line, the entry and what is wrong, for the first entry that is malformed or
// whose address has stood before; FAILED_PRECONDITION if there is none: a file that is being written is
// empty at first.
absl::StatusOr<std::vector<ResolvedServer>> ParseServerFile(std::string_view text, std::string_view path);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_SERVER_FILE_H_
