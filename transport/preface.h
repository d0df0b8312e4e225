// The first 8 bytes each side sends, by which a peer of another kind is known at once (PROTOCOL.md section
// 2).
#ifndef FERRY_TRANSPORT_PREFACE_H_
#define FERRY_TRANSPORT_PREFACE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ferry::transport {

//  0      1     2     3     4       5    6    7    8
//  +------+-----+-----+-----+-------+----+----+----+
//  | 0xf5 | 'F' | 'R' | 'Y' | major | 00 | 00 | 0a |
//  +------+-----+-----+-----+-------+----+----+----+
inline constexpr size_t kPrefaceSize = 8;

// The protocol's major version. Peers of another one cannot talk.
inline constexpr uint8_t kMajorVersion = 1;

// Writes kPrefaceSize bytes.
void EncodePreface(char* out);

// Whether `input` begins with the preface of this version; false if it is too short to say.
//
// Returns an error, which names what the peer seems to be, as soon as no further bytes can make the input
// valid: UNIMPLEMENTED for another major version of Ferry, otherwise INTERNAL.
absl::StatusOr<bool> CheckPreface(absl::string_view input);

}  // namespace ferry::transport

#endif  // FERRY_TRANSPORT_PREFACE_H_
