// protoc-gen-ferry: a plugin of protoc that writes service skeletons and client stubs (codegen/README.md).
#include <google/protobuf/compiler/plugin.h>

#include "ferry/codegen/generator.h"

int main(int argc, char** argv) {
  const ferry::codegen::Generator generator;
  return google::protobuf::compiler::PluginMain(argc, argv, &generator);
}
