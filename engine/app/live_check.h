// `mobula check --live`: tries what the backends of a configuration need: region, credentials, each role, the
// account, endpoint and permission. Nothing is written to any far side.
//
// Room:   cold; its own process.
// Limits: 15 seconds per backend; backends of type xray are tried at the same time.
#pragma once

#include <cstdint>

#include "engine/config/config.h"

namespace mobula {

enum class LiveCheckOutput : uint8_t {
  kAuto,  // a table on a terminal, else JSON
  kJson,
};

// Prints what was tried, what came of it and how to mend it, to stdout; progress to stderr when that is a
// terminal. 0: everything passed. 1: something failed.
int LiveCheck(const Config& config, LiveCheckOutput output);

}  // namespace mobula
