// `mobula spool ls|verify|replay`: looks after a spool from outside (engine/spool/inspect.h). Nothing there is
// changed. The agent itself sends what is ready; these are for what it set aside, and for spools without an agent.
//
// Room:   cold; its own process.
// Errors: told on stderr; the exit status is 0 when all is well, 1 when something is damaged, could not be read or was
//         not sent.
// Limits: one frame of a file in memory, and 1 KiB a file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/app/output_form.h"
#include "engine/app/send_command.h"
#include "engine/config/loader.h"
#include "engine/spool/inspect.h"

namespace mobula {

// A spool, one of its instances' directories, or a single file; without a `path`, the configuration's spool.
absl::StatusOr<std::string> SpoolPath(const std::string& path, const ConfigInput& config);

// What lies there, by backend, instance and state.
int SpoolListCommand(const std::string& path, OutputForm form);

// Reads everything, with progress on stderr, and says what is damaged, where, and what can be done.
int SpoolVerifyCommand(const std::string& path, OutputForm form);

struct SpoolReplayOptions {
  std::vector<std::string> paths;
  std::string backend;  // empty: of all
  std::string to;       // as in SendOptions
  uint64_t rate = 1000;
  bool set_aside = false;  // only foreign and damaged files
  bool in_use = false;     // also what a running agent is about to send itself
};
// Sends the documents that are left as datagrams, with progress on stderr.
int SpoolReplayCommand(const SpoolReplayOptions& options, OutputForm form);

// --- the parts, for tests -------------------------------------------------------------------------------

absl::StatusOr<std::vector<SpoolFileInfo>> SpoolFilesAt(const std::string& path);
std::string SpoolTable(const std::vector<SpoolFileInfo>& files, SystemTime now, bool colour);
// {"documents":N,"bytes":N,"groups":[{"backend":"prod","instance":...,"in_use":B,"state":"ready","documents":N,
// "bytes":N,"oldest_s":N,"newest_s":N,"files":["PATH"]}]}; what is not known is null.
std::string SpoolListJson(const std::vector<SpoolFileInfo>& files, SystemTime now);

}  // namespace mobula
