#pragma once

namespace consumer {

inline const char* RpcServer() { return "the consumer's rpc/server.h"; }

}  // namespace consumer
