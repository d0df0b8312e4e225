#pragma once

namespace consumer {

inline const char* TransportConnection() { return "the consumer's transport/connection.h"; }

}  // namespace consumer
