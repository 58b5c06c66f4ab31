// The directory of one instance: found or made, locked, and heir to the directories of instances that are gone.
//
// Room:      cold.
// Lifecycle: opened, AdoptSiblings now and then, destroyed: a directory left empty is removed.
// Threads:   one at a time; the caller's.
// Errors:    absl::Status of the disk; what cannot be adopted now is tried again by the next AdoptSiblings.
// Limits:    directories are called instance-<16 hex digits>; whatever else lies there is not touched.
#pragma once

#include <memory>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/spool/spool_disk.h"

namespace mobula {

class Log;

class SpoolHome {
 public:
  // Takes the first directory below `path` that nobody has locked, or makes one.
  static absl::StatusOr<std::unique_ptr<SpoolHome>> Open(const std::string& path, SpoolDisk* disk,
                                                         std::mt19937_64* random, Log* log);
  ~SpoolHome();
  SpoolHome(const SpoolHome&) = delete;
  SpoolHome& operator=(const SpoolHome&) = delete;

  [[nodiscard]] SpoolDir* dir() { return dir_.get(); }
  [[nodiscard]] bool StillThere() { return dir_->StillThere(); }

  // Moves the files of unlocked siblings here. At any instant each file is in one place or the other. Answers
  // those that came; with `sync` they are here after a power failure too.
  absl::StatusOr<std::vector<SpoolDirEntry>> AdoptSiblings(bool sync);

  static bool IsInstanceName(const std::string& name);

 private:
  SpoolHome(std::unique_ptr<SpoolDir> root, Log* log) : root_(std::move(root)), log_(log) {}
  absl::StatusOr<bool> TryTake(const std::string& name);
  void AdoptFrom(const std::string& name, bool sync, std::vector<SpoolDirEntry>* came);

  const std::unique_ptr<SpoolDir> root_;
  Log* const log_;
  std::string name_;
  std::unique_ptr<SpoolDir> dir_;
};

}  // namespace mobula
