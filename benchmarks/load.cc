// The load program: calls between two processes, over sockets, and what they cost. README.md explains the
// rows and the columns.
#include "ferry/benchmarks/implementations.h"
#include "ferry/benchmarks/load_main.h"

int main(int argc, char** argv) {
  return ferry::bench::LoadMain(argc, argv, ferry::bench::OwnImplementations());
}
