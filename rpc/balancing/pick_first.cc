#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "ferry/rpc/balancing/balancer.h"
#include "ferry/rpc/balancing/pickers.h"

namespace ferry {
namespace {

class PickFirst final : public Picker {
 public:
  explicit PickFirst(absl::Span<const GroupServer> group) {
    servers_.reserve(group.size());
    for (const GroupServer& server : group) servers_.push_back({server.index});
  }

  std::optional<size_t> Pick(const PickArguments& arguments) const override {
    const Server* server = FirstNotExcluded(servers_, 0, arguments);
    return server != nullptr ? std::optional<size_t>(server->index) : std::nullopt;
  }

 private:
  struct Server {
    size_t index;
  };
  std::vector<Server> servers_;
};

}  // namespace

std::unique_ptr<Picker> MakePickFirst(absl::Span<const GroupServer> group) {
  return std::make_unique<PickFirst>(group);
}

}  // namespace ferry
