// Runs a program and reads what it prints.
#ifndef FERRY_TESTS_BENCHMARKS_PROGRAM_H_
#define FERRY_TESTS_BENCHMARKS_PROGRAM_H_

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <sstream>
#include <string>
#include <vector>

namespace ferry::bench {

struct Outcome {
  int exit_status;
  // What it printed on its standard output.
  std::string output;
};

// Runs `command` in a shell and waits for its end. What goes to standard error, where Ferry's server says
// that a method is slow, is not in the outcome unless `command` redirects it.
inline Outcome RunProgram(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  for (int c = getc(pipe); c != EOF; c = getc(pipe)) output.push_back(static_cast<char>(c));
  return {WEXITSTATUS(pclose(pipe)), output};
}

// The JSON objects of `text`, one on each line.
inline std::vector<google::protobuf::Struct> ParseLines(const std::string& text) {
  std::vector<google::protobuf::Struct> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &lines.emplace_back()).ok()) << line;
  }
  return lines;
}

}  // namespace ferry::bench

#endif  // FERRY_TESTS_BENCHMARKS_PROGRAM_H_
