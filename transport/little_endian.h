// Integers as the wire has them: little-endian, at any alignment.
#ifndef FERRY_TRANSPORT_LITTLE_ENDIAN_H_
#define FERRY_TRANSPORT_LITTLE_ENDIAN_H_

#include <cstddef>
#include <cstdint>

namespace ferry::transport {

// Compilers make one load or store of these loops.
template <typename T>
constexpr T LoadLittleEndian(const char* in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(in[i])) << (8 * i));
  }
  return value;
}

template <typename T>
constexpr void StoreLittleEndian(T value, char* out) {
  for (size_t i = 0; i < sizeof(T); ++i)
    out[i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
}

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_LITTLE_ENDIAN_H_
