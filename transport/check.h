// Catching our own mistakes.
#ifndef FERRY_TRANSPORT_CHECK_H_
#define FERRY_TRANSPORT_CHECK_H_

#include <cstdio>
#include <cstdlib>

// Prints where, and `what` (a string literal), and aborts unless `condition` holds. For bugs of ours and
// misuse of our interfaces by the program; never for what a peer sent or the machine refused.
#define FERRY_CHECK(condition, what)                                               \
  do {                                                                             \
    if (!(condition)) [[unlikely]] {                                               \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, what); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

#endif  // FERRY_TRANSPORT_CHECK_H_
