// What a running agent cannot take up of a new configuration.
//
// Room: cold.
#pragma once

#include <string>
#include <vector>

#include "engine/config/config.h"

namespace mobula {

struct OptionChange {
  std::string path;
  std::string from;  // as people write it; "none" when there is no value
  std::string to;
};

// Gives *next the values of `running` for all options that only a start reads: everything but backends, routes and
// what the table of options calls live. Answers those that differed.
std::vector<OptionChange> KeepForRestart(const Config& running, Config* next);

}  // namespace mobula
