// The agent from configuration to the final ledger: `mobula run`, and the same as the X-Ray daemon's stand-in.
//
// Room: cold; owns the control thread, which waits for signals and keeps house.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/config/loader.h"

namespace mobula {

// kDaemon: tells the start in the X-Ray daemon's phrases and never draws on the terminal. A log file that cannot be
// opened and an admin address that is taken are told and done without, and nothing cuts the drain short.
enum class RunStyle : uint8_t { kMobula, kDaemon };

// Serves until SIGTERM or SIGINT, drains, tells the ledger; SIGHUP opens files and reads the configuration again. On a
// terminal a status line shows what arrives, and a second Ctrl-C cuts the drain short.
// Answers the exit status: 0 when the agent ended in order, whatever could not be delivered (that stands in the
// ledger), 1 when it could not start; why was told in the log, or on stderr before there was one.
int RunAgent(const ConfigInput& input);
// The same with a configuration that is read already; `origin` stands for where in the log, and `load` reads it again;
// without one that cannot be done.
int RunAgent(const Config& config, const std::string& origin, RunStyle style,
             std::function<absl::StatusOr<Config>()> load);

// `mobula check`: reads the configuration and says what it means, without opening anything.
absl::Status CheckConfig(const ConfigInput& input);

}  // namespace mobula
