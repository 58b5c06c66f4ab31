// The environment of this process. Tested by tests/unit/engine/aws/credentials_test.cc.
#include "engine/aws/credentials.h"

#include <cstdlib>

namespace mobula {

Environment ProcessEnvironment() {
  return [](std::string_view name) -> std::optional<std::string> {
    const char* const value = std::getenv(std::string(name).c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

}  // namespace mobula
