#include "tests/testing/temporary_directory.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "ferry/transport/check.h"

namespace ferry::test {

TemporaryDirectory::TemporaryDirectory() : path_("/tmp/ferry-XXXXXX") {
  FERRY_CHECK(mkdtemp(path_.data()) != nullptr, "cannot make a temporary directory");
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace ferry::test
