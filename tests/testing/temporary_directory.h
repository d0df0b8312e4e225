// A directory for a test's own files.
#ifndef FERRY_TESTS_TESTING_TEMPORARY_DIRECTORY_H_
#define FERRY_TESTS_TESTING_TEMPORARY_DIRECTORY_H_

#include <string>

namespace ferry::test {

// A TemporaryDirectory is a new directory with a name short enough for a Unix socket. It is removed, with
// what is in it, when this is destroyed.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_TEMPORARY_DIRECTORY_H_
