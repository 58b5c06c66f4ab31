// Looks into a spool from outside: what `mobula spool ls`, `verify` and `replay` stand on. Changes nothing and
// takes no lock, so that it may look while an agent works; the newest frame may then seem torn.
//
// Room:   cold.
// Errors: a file that is damaged is told as such; absl::Status only for a path that cannot be listed.
// Limits: one frame of a file in memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/spool/spool_format.h"

namespace mobula {

enum class SpoolCheck : uint8_t {
  kHeaders,   // of files and frames: fast
  kContents,  // every frame read, its checksum compared, its documents counted
};

struct SpoolFileInfo {
  enum class Kind : uint8_t { kReady, kForeign, kDamaged };

  std::string path;
  std::string instance;  // the directory's name
  bool in_use = false;   // an agent holds the directory
  Kind kind = Kind::kReady;
  uint64_t bytes = 0;
  absl::Status header;  // OK, or why what follows is unknown

  std::string backend;
  uint64_t identity = 0;
  SystemTime created{};
  SystemTime newest{};
  uint64_t frames = 0;
  uint64_t documents = 0;
  uint64_t remaining = 0;       // documents neither delivered nor dropped
  uint64_t damaged_frames = 0;  // only seen with kContents
  uint64_t gaps = 0;            // stretches of bytes that are no frames
  uint64_t torn_bytes = 0;      // at the end

  [[nodiscard]] bool sound() const { return header.ok() && damaged_frames == 0 && gaps == 0; }
};

// The spool files of all instances below `path`, sorted by instance and name.
absl::StatusOr<std::vector<SpoolFileInfo>> ListSpool(const std::string& path, SpoolCheck check,
                                                     SpoolDisk* disk);

// Calls `take` with every readable frame of the file at `path`, in order, those that are done included:
// `remaining` tells.
absl::StatusOr<SpoolFileInfo> ReadSpoolFile(const std::string& path, SpoolDisk* disk,
                                            const std::function<void(const SpooledFrame&)>& take);

}  // namespace mobula
