// The methods that a server serves.
#ifndef FERRY_RPC_METHOD_TABLE_H_
#define FERRY_RPC_METHOD_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "ferry/rpc/call_recycler.h"
#include "ferry/rpc/inline_guard.h"
#include "ferry/rpc/service.h"

namespace ferry {

// A ServedMethod is a method of a registered service.
struct ServedMethod {
  ServedMethod(const ServerMethod& m, Service& s, const InlineGuard::Options& options)
      : method(m),
        service(s),
        takes_stream(m.descriptor->client_streaming),
        streams(m.descriptor->client_streaming || m.descriptor->server_streaming),
        run_inline(m.descriptor->run_inline),
        guard(options) {}

  const char* name() const { return method.descriptor->full_name; }

  const ServerMethod& method;
  Service& service;
  // Whether it takes a stream of requests; whether it does, or answers with a stream of replies.
  const bool takes_stream;
  const bool streams;
  // Whether it runs on the loops, as long as the guard lets it.
  bool run_inline;
  InlineGuard guard;
  // One for each loop.
  std::vector<std::unique_ptr<CallRecycler>> recyclers;
};

// A MethodTable finds methods by their ids.
//
// Thread-compatible; immutable once the server listens.
class MethodTable {
 public:
  explicit MethodTable(const InlineGuard::Options& inline_guard) : inline_guard_(inline_guard) {}

  // Adds the methods of `service`, which must outlive the table. ALREADY_EXISTS, naming both methods, if one
  // has the id of another.
  absl::Status Add(Service& service);

  // Says whether a method runs on the loops, whatever its .proto says. NOT_FOUND if no service has it.
  absl::Status SetInline(const std::string& full_name, bool run_inline);

  // Gives each method a recycler for each of `loops` loops.
  void PrepareFor(size_t loops);

  const InlineGuard::Options& inline_guard() const { return inline_guard_; }

  // nullptr if there is none.
  ServedMethod* Find(uint64_t id) const {
    const auto found = methods_.find(id);
    return found == methods_.end() ? nullptr : found->second.get();
  }

 private:
  // Ids are hashes already.
  struct IdHash {
    size_t operator()(uint64_t id) const { return id; }
  };

  const InlineGuard::Options inline_guard_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<ServedMethod>, IdHash> methods_;
};

}  // namespace ferry

#endif  // FERRY_RPC_METHOD_TABLE_H_
