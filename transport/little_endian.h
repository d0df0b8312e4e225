// Integers as the wire has them: little-endian, at any alignment.
#ifndef FERRY_TRANSPORT_LITTLE_ENDIAN_H_
#define FERRY_TRANSPORT_LITTLE_ENDIAN_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ferry::transport {

// One load or store where the machine has that order; GCC 12 does not see it in the loops.
template <typename T>
constexpr T LoadLittleEndian(const char* in) {
  T value = 0;
  if (!std::is_constant_evaluated() && std::endian::native == std::endian::little) {
    std::memcpy(&value, in, sizeof value);
    return value;
  }
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(in[i])) << (8 * i));
  }
  return value;
}

template <typename T>
constexpr void StoreLittleEndian(T value, char* out) {
  if (!std::is_constant_evaluated() && std::endian::native == std::endian::little) {
    std::memcpy(out, &value, sizeof value);
    return;
  }
  for (size_t i = 0; i < sizeof(T); ++i)
    out[i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
}

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_LITTLE_ENDIAN_H_
