// `mobula check --live`: tries what the backends of a configuration need: region, credentials, each role, the
// account, endpoint and permissions. Nothing is written to any far side.
//
// Room:   cold; its own process.
// Limits: 40 seconds per backend, 25 of them for the region; the backends are tried at the same time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/app/output_form.h"
#include "engine/aws/credentials.h"
#include "engine/config/config.h"

namespace mobula {

// Prints what was tried, what came of it and how to mend it, to stdout; progress to stderr when that is a
// terminal. 0: everything passed. 1: something failed.
int LiveCheck(const Config& config, OutputForm form);

// --- the parts, for tests -------------------------------------------------------------------------------

enum class LiveResult : uint8_t {
  kOk,
  kFailed,
  kUnknown,  // could not be told, and need not be in order for segments to arrive
  kSkipped,  // something before it failed
};

// One thing that was tried.
struct LiveRow {
  std::string backend;
  std::string
      tried;  // "region", "credentials", "role arn:...", "endpoint", "xray:PutTraceSegments", ...
  LiveResult result = LiveResult::kOk;
  std::string source;   // where the region, or which source the credentials came from
  std::string account;  // whose it is, where AWS told
  std::string answer;   // what came of it
  std::string fix;      // what to do; empty unless it failed
};

// How many rows RunLiveCheck will have.
size_t LiveRowCount(const Config& config);
// `step` is called for each row as it is known, on any thread.
std::vector<LiveRow> RunLiveCheck(const Config& config, const Environment& environment,
                                  const std::function<void()>& step);
bool LivePassed(const std::vector<LiveRow>& rows);
std::string LiveTable(const std::vector<LiveRow>& rows, bool colour);
// {"ok":B,"checks":[{"backend":...,"tried":...,"result":"ok","source":...,"account":...,"answer":...,"fix":...}]}
std::string LiveJson(const std::vector<LiveRow>& rows);

}  // namespace mobula
