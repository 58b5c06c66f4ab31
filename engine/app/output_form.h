// How a command tells its result.
//
// Room: cold.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace mobula {

enum class OutputForm : uint8_t {
  kAuto,  // text for people on a terminal, else JSON
  kJson,
  kTable,
};

inline bool IsJson(OutputForm form) {
  return form == OutputForm::kJson || (form == OutputForm::kAuto && isatty(STDOUT_FILENO) != 1);
}

// Whether text on standard output may have colours.
inline bool HasColour() { return isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

}  // namespace mobula
