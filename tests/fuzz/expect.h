// Stops a fuzz target at a wrong answer, so that libFuzzer keeps the input and the replay test
// fails.
#pragma once

#include <cstdio>
#include <cstdlib>

#define EXPECT(condition)                                                                \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: wrong answer: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
