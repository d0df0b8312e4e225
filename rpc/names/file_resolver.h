// Servers that a file lists, as it changes.
#ifndef FERRY_RPC_NAMES_FILE_RESOLVER_H_
#define FERRY_RPC_NAMES_FILE_RESOLVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ferry/rpc/names/resolver.h"
#include "ferry/transport/event_loop.h"

namespace ferry {

struct FileResolverOptions {
  // For how long changes are collected before the file is read: it is read no more often than this, however
  // often it changes, and a file that is written in place has most likely been written to its end. Whoever
  // wants to be sure renames a finished file into place.
  absl::Duration settle = absl::Milliseconds(100);

  // How often the file is read even if the system tells of no change: for file systems that do not (NFS), and
  // for a symbolic link's file in another directory.
  absl::Duration poll_interval = absl::Seconds(30);

  // How often, while its directory cannot be watched: there is none, or the system has no more watches.
  absl::Duration missing_poll_interval = absl::Seconds(1);

  // INVALID_ARGUMENT, with the option and its value, if one is not positive.
  absl::Status Validate() const;
};

// A resolver that tells its watcher of the servers in the file at `path` (server_file.h), again whenever they
// have changed. A file that cannot be read, has a malformed entry or none at all, or more than 4 MiB, is an
// error, which is told once: the servers told before go on counting, and the file is watched as before.
//
// ResolveAgain does nothing. Reading waits for the disk. `loop` is not owned. REQUIRES: `options` are valid.
std::unique_ptr<Resolver> NewFileResolver(const std::string& path, const FileResolverOptions& options,
                                          transport::EventLoop& loop);

}  // namespace ferry

#endif  // FERRY_RPC_NAMES_FILE_RESOLVER_H_
