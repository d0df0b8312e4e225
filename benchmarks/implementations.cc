#include "ferry/benchmarks/implementations.h"

#include <memory>

#include "ferry/benchmarks/ferry_echo.h"
#include "ferry/benchmarks/floor.h"

namespace ferry::bench {
namespace {

using Made = std::unique_ptr<Implementation>;

}  // namespace

Implementations OwnImplementations() {
  return {
      {"ferry", [] { return Made(std::make_unique<FerryEcho>(FerryEcho::Options{})); }},
      {"ferry-blocking",
       [] { return Made(std::make_unique<FerryEcho>(FerryEcho::Options{.polling = false})); }},
      {"ferry-inline",
       [] { return Made(std::make_unique<FerryEcho>(FerryEcho::Options{.all_inline = true})); }},
      {"ferry-exclusive",
       [] { return Made(std::make_unique<FerryEcho>(FerryEcho::Options{.exclusive = true})); }},
      {"floor", [] { return Made(std::make_unique<Floor>(Floor::Waiting::kBlocking)); }},
      {"floor-polling", [] { return Made(std::make_unique<Floor>(Floor::Waiting::kPolling)); }},
  };
}

}  // namespace ferry::bench
