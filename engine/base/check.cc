// The one place where the program stops because of a bug of its own. Tested by base_test.cc.
#include "engine/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace mobula {

void CheckFailed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace mobula
