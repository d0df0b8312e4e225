// The load program, which knows gRPC too.
#include "ferry/benchmarks/grpc/grpc_echo.h"
#include "ferry/benchmarks/implementations.h"
#include "ferry/benchmarks/load_main.h"

int main(int argc, char** argv) {
  ferry::bench::Implementations known = ferry::bench::OwnImplementations();
  for (const auto& implementation : ferry::bench::GrpcImplementations()) known.push_back(implementation);
  return ferry::bench::LoadMain(argc, argv, known);
}
