// A backend that is away for minutes under full load, in each of the ways that backends go away: what is lost, what
// comes twice, and when all is as before.
//
// Room:   test.
// Limits: 40 bytes of memory a document, and the spool.
#pragma once

#include "engine/base/time.h"

namespace mobula::sim {

struct OutageOptions {
  Duration outage = std::chrono::minutes(10);
  uint64_t documents_per_second = 5000;
  uint64_t seed = 1;
};

// Prints a table; false when something was lost, or live documents were late for longer than twice the outage.
bool RunOutages(const OutageOptions& options);

}  // namespace mobula::sim
