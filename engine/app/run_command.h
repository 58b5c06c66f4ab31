// `mobula run`: the agent from configuration to the final ledger.
//
// Room: cold; owns the control thread, which waits for signals and keeps house.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "engine/config/loader.h"

namespace mobula {

// Serves until SIGTERM or SIGINT, drains, prints the ledger; SIGHUP opens files again. On a terminal a
// status line shows what arrives, and a second Ctrl-C cuts the drain short.
// Answers the exit status: 0 when the agent ended in order, whatever could not be delivered (that stands in the
// ledger), 1 when it could not start; why was told in the log, or on stderr before there was one.
int RunAgent(const ConfigInput& input);

// `mobula check`: reads the configuration and says what it means, without opening anything.
absl::Status CheckConfig(const ConfigInput& input);

}  // namespace mobula
