// Random numbers for tests that can be had again.
#ifndef FERRY_TESTS_TESTING_RANDOM_H_
#define FERRY_TESTS_TESTING_RANDOM_H_

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>

namespace ferry::test {

// A Random is a generator whose seed is printed; the environment variable FERRY_TEST_SEED sets it.
//
// Thread-compatible.
class Random {
 public:
  Random() : Random(Seed()) {}
  explicit Random(uint32_t seed) : engine_(seed) { std::cout << "FERRY_TEST_SEED=" << seed << std::endl; }

  // Uniform in [least, most].
  uint64_t Number(uint64_t least, uint64_t most) {
    return std::uniform_int_distribution<uint64_t>(least, most)(engine_);
  }
  bool Coin() { return Number(0, 1) == 1; }
  // 0 to `most_size` bytes of any value.
  std::string Bytes(uint64_t most_size) {
    std::string bytes(Number(0, most_size), '\0');
    for (char& byte : bytes) byte = static_cast<char>(Number(0, 255));
    return bytes;
  }

 private:
  static uint32_t Seed() {
    const char* seed = std::getenv("FERRY_TEST_SEED");
    return seed != nullptr ? static_cast<uint32_t>(std::strtoul(seed, nullptr, 10)) : std::random_device()();
  }

  std::mt19937_64 engine_;
};

}  // namespace ferry::test

#endif  // FERRY_TESTS_TESTING_RANDOM_H_
