// Uses headers of the consumer's own that are named like Ferry's, and Ferry's.
#include <iostream>

#include "ferry/rpc/server.h"
#include "rpc/server.h"
#include "transport/connection.h"

int main() {
  ferry::Server server({});
  std::cout << consumer::RpcServer() << "\n" << consumer::TransportConnection() << "\n";
}
