// How a port is bound. kAlone: refused while anybody has it. kShared: beside the one that has it and gives it up, which
// must be of the same user.
#pragma once

#include <cstdint>

namespace mobula {

enum class PortUse : uint8_t { kAlone, kShared };

}  // namespace mobula
