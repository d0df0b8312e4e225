// The cost ladder: what this machine takes for the things that calls are made of, cheapest first.
#include <cstdio>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "ferry/benchmarks/ladder/rungs.h"
#include "ferry/benchmarks/text_table.h"

ABSL_FLAG(bool, smoke, false, "do everything once");

int main(int argc, char** argv) {
  using namespace ferry::bench;
  absl::SetProgramUsageMessage("prints what this machine takes for the things that calls are made of");
  absl::ParseCommandLine(argc, argv);
  const LadderOptions options{.once = absl::GetFlag(FLAGS_smoke)};
  TextTable table({{"rung", true}, {"median ns"}, {"p99 ns"}, {"note", true}});
  for (const auto rungs :
       {KernelRungs, MessageRungs, WakeRungs, SocketRungs, NameRungs, TlsRungs, CallRungs}) {
    for (const Rung& rung : rungs(options)) {
      table.Add({rung.name, absl::StrCat(rung.nanos.Percentile(0.5)),
                 absl::StrCat(rung.nanos.Percentile(0.99)), rung.note});
    }
  }
  std::fputs(table.Text().c_str(), stdout);
  return 0;
}
