#include "ferry/benchmarks/figures.h"

#include <algorithm>

#include "ferry/transport/check.h"

namespace ferry::bench {
namespace {

using Number = std::optional<double>;

double PerCall(const Measurement& m, int64_t amount) {
  return static_cast<double>(amount) / static_cast<double>(m.calls);
}

Number CallsPerSecond(const Measurement& m) {
  return static_cast<double>(m.calls) * 1e9 / static_cast<double>(m.nanos);
}

template <int kPerMille>
Number Micros(const Measurement& m) {
  return static_cast<double>(m.latency.Percentile(kPerMille / 1000.0)) / 1000;
}

// CPU-seconds for a million calls are microseconds for one.
template <Usage Measurement::*kSide>
Number Cpu(const Measurement& m) {
  return PerCall(m, (m.*kSide).cpu_nanos) / 1000;
}

template <Usage Measurement::*kSide, int64_t Usage::*kCount>
Number Each(const Measurement& m) {
  return PerCall(m, m.*kSide.*kCount);
}

template <std::optional<Rest> Measurement::*kSide, int64_t Rest::*kNanos>
Number AtRest(const Measurement& m) {
  if (!(m.*kSide).has_value()) return std::nullopt;
  return static_cast<double>(*(m.*kSide).*kNanos) / 1000;
}

template <int64_t Alone::*kNanos>
Number OfAlone(const Measurement& m) {
  if (!m.alone.has_value()) return std::nullopt;
  return static_cast<double>((*m.alone).*kNanos) / 1000;
}

// Twice what small calls take alone, and one fragment that may be in front.
Number OfAllowed(const Measurement& m) {
  if (!m.alone.has_value()) return std::nullopt;
  return static_cast<double>(m.latency.Percentile(0.99)) /
         static_cast<double>(2 * m.alone->p99_nanos + m.alone->fragment_nanos);
}

Number WireBytes(const Measurement& m) {
  return PerCall(m, m.client.bytes_written + m.server.bytes_written) - static_cast<double>(m.message_bytes);
}

constexpr auto kClient = &Measurement::client;
constexpr auto kServer = &Measurement::server;
constexpr auto kClientRest = &Measurement::client_rest;
constexpr auto kServerRest = &Measurement::server_rest;

constexpr Figure kFigures[] = {
    {"calls_per_second", "calls/s", 0, CallsPerSecond},
    {"p50_us", "p50 us", 1, Micros<500>},
    {"p99_us", "p99", 1, Micros<990>},
    {"p999_us", "p99.9", 1, Micros<999>},
    {"client_cpu_seconds_per_million_calls", "cpu c", 2, Cpu<kClient>},
    {"server_cpu_seconds_per_million_calls", "cpu s", 2, Cpu<kServer>},
    {"client_heap_allocations_per_call", "heap c", 2, Each<kClient, &Usage::heap_allocations>},
    {"server_heap_allocations_per_call", "heap s", 2, Each<kServer, &Usage::heap_allocations>},
    {"client_syscalls_per_call", "sys c", 3, Each<kClient, &Usage::syscalls>},
    {"server_syscalls_per_call", "sys s", 3, Each<kServer, &Usage::syscalls>},
    {"client_waits_per_call", "", 3, Each<kClient, &Usage::waits>},
    {"server_waits_per_call", "", 3, Each<kServer, &Usage::waits>},
    {"client_reads_per_call", "", 3, Each<kClient, &Usage::reads>},
    {"server_reads_per_call", "", 3, Each<kServer, &Usage::reads>},
    {"client_writes_per_call", "", 3, Each<kClient, &Usage::writes>},
    {"server_writes_per_call", "", 3, Each<kServer, &Usage::writes>},
    {"client_wake_ups_per_call", "", 3, Each<kClient, &Usage::wake_ups>},
    {"server_wake_ups_per_call", "", 3, Each<kServer, &Usage::wake_ups>},
    {"client_empty_polls_per_call", "polls c", 2, Each<kClient, &Usage::empty_polls>},
    {"server_empty_polls_per_call", "polls s", 2, Each<kServer, &Usage::empty_polls>},
    {"wire_bytes_beyond_messages", "wire", 1, WireBytes},
    {"client_asleep_after_us", "", 0, AtRest<kClientRest, &Rest::asleep_after_nanos>},
    {"server_asleep_after_us", "", 0, AtRest<kServerRest, &Rest::asleep_after_nanos>},
    {"alone_p50_us", "", 1, OfAlone<&Alone::p50_nanos>},
    {"alone_p99_us", "", 1, OfAlone<&Alone::p99_nanos>},
    {"fragment_us", "", 1, OfAlone<&Alone::fragment_nanos>},
    {"p99_of_allowed", "", 2, OfAllowed},
    {"client_idle_cpu_us", "", 0, AtRest<kClientRest, &Rest::cpu_nanos>},
    {"server_idle_cpu_us", "", 0, AtRest<kServerRest, &Rest::cpu_nanos>},
};

}  // namespace

absl::Span<const Figure> Figures() { return kFigures; }

const Figure& FigureNamed(std::string_view name) {
  const Figure* const found =
      std::find_if(std::begin(kFigures), std::end(kFigures), [&](const Figure& f) { return f.name == name; });
  FERRY_CHECK(found != std::end(kFigures), "there is no figure of that name");
  return *found;
}

}  // namespace ferry::bench
