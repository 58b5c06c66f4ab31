// Looks into a spool from outside: what `mobula spool ls`, `verify` and `replay` stand on. Changes nothing and
// keeps no lock, so that it may look while an agent works; the newest frame may then seem torn.
//
// Room:   cold.
// Errors: what is damaged or cannot be opened is told as such; absl::Status only for a path that cannot be listed,
//         and for a disk that cannot be read.
// Limits: one frame of a file in memory; 100 places of damage a file, the others only counted.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/spool/spool_format.h"
#include "engine/spool/spool_reader.h"

namespace mobula {

enum class SpoolCheck : uint8_t {
  kHeaders,   // of files and frames: fast
  kContents,  // every frame read, its checksum compared, its documents counted
};

// A stretch of a file that cannot be read.
struct SpoolDamage {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t documents = 0;  // of a frame whose content is damaged; 0: bytes that are no frame
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
  uint64_t frames = 0;  // that can be read, as far as was looked
  uint64_t documents = 0;
  uint64_t remaining = 0;       // documents neither delivered nor dropped
  uint64_t damaged_frames = 0;  // only seen with kContents
  uint64_t gaps = 0;            // stretches of bytes that are no frames
  std::vector<SpoolDamage> damage;
  uint64_t torn_bytes = 0;  // at the end: an interrupted write, no damage

  [[nodiscard]] bool sound() const { return header.ok() && damaged_frames == 0 && gaps == 0; }
};

// The spool files of all instances below `path`, sorted by instance and name. Of an instance whose directory cannot be
// opened, one entry with its path and the reason.
absl::StatusOr<std::vector<SpoolFileInfo>> ListSpool(const std::string& path, SpoolCheck check,
                                                     SpoolDisk* disk);
// One of them, wherever it lies and whatever its name is; NotFound.
absl::StatusOr<SpoolFileInfo> InspectSpoolFile(const std::string& path, SpoolCheck check,
                                               SpoolDisk* disk);

// Reads one file, frame by frame.
class SpoolScan {
 public:
  // NotFound: also for a file to which nothing was written; DataLoss, Unimplemented: for its header.
  static absl::StatusOr<std::unique_ptr<SpoolScan>> Open(const std::string& path, SpoolDisk* disk);

  // The next readable frame, those that are done included: `remaining` tells. Nothing at the end.
  absl::StatusOr<std::optional<SpooledFrame>> Next();
  // What was found so far; the end of the file, and damage just before it, once Next answered nothing.
  [[nodiscard]] const SpoolFileInfo& info() const { return info_; }

 private:
  friend SpoolFileInfo InspectEntry(SpoolDir* dir, const SpoolDirEntry& entry, SpoolCheck check);

  SpoolScan(std::unique_ptr<SpoolFile> file, const SpoolFileHeader& header, SpoolFileInfo info);
  static absl::StatusOr<std::unique_ptr<SpoolScan>> Open(SpoolDir* dir, const SpoolDirEntry& entry);
  absl::Status SkimHeaders();
  void Count(const SpoolFrameHeader& header);
  void AddDamage(const SpoolDamage& damage);

  const std::unique_ptr<SpoolFile> file_;
  SpoolFileInfo info_;
  SpoolReader reader_;
  SpoolDecoder decoder_;
  std::string stored_;
  // A frame with a wrong checksum: damage, unless it is the last one.
  std::optional<SpoolDamage> suspect_;
};

}  // namespace mobula
