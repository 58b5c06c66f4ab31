// How closely documents are looked at before they are passed on.
#pragma once

#include <cstdint>

namespace mobula {

enum class Validate : uint8_t {
  kJson,    // must be well-formed JSON objects (or T1S/T1U): the default
  kStrict,  // and must be what X-Ray accepts: its checks, in its order, with its codes
  kOff,     // everything with a valid header passes, as with the X-Ray daemon
};

}  // namespace mobula
