// The program under the X-Ray daemon's name or with its flags: its command line, file, log lines and exit codes in
// front of our agent.
//
// Room: cold.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/config/daemon_flags.h"

namespace mobula {

// Whether a command line, the program's name first, is the daemon's: called by the name `xray`, or with no
// subcommand in front.
bool IsDaemonCommandLine(const std::vector<std::string>& words);

// `args` without the program's name. Answers the exit status: 0 after SIGTERM, SIGINT, -h and -v, 1 when it cannot
// start, 2 when the command line is wrong.
int DaemonCommand(const std::vector<std::string>& args);

struct DaemonConfig {
  Config config;
  std::string origin;  // the file it was read from, or "built-in defaults"
};

// What to run: the file named by -c, else the first of `places` that exists, migrated and read as any configuration of
// ours: MOBULA_… in the environment wins over the file, and the flags over both. Mistakes name the daemon's keys and
// flags.
absl::StatusOr<DaemonConfig> LoadDaemonConfig(const DaemonFlags& flags,
                                              const std::vector<std::string>& places);

}  // namespace mobula
