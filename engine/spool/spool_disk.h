// All that the spool asks of the disk, so that tests and simulation can put a disk of their own in its place.
//
// Room:      warm and cold: every call may wait for the kernel, Sync for the device.
// Threads:   a SpoolFile may be synced by one thread while another writes it; else one at a time, the caller's.
// Ownership: what a directory hands out (files, locks) may outlive it.
// Errors:    absl::Status by errno: NotFound, ResourceExhausted (no room), PermissionDenied, FailedPrecondition
//            (read-only) and so on. A write that failed may have left a part of its bytes.
// Limits:    names are single components; nothing follows a symbolic link in the last one.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mobula {

// Time on the calendar: what is on a disk outlives every monotonic clock.
using SystemTime = std::chrono::system_clock::time_point;

enum class SpoolAccess : uint8_t { kRead, kWrite };

struct SpoolDirEntry {
  std::string name;
  bool directory = false;
  uint64_t bytes = 0;
  SystemTime modified{};
};

// A regular file, open.
class SpoolFile {
 public:
  virtual ~SpoolFile() = default;

  // As many bytes as there are up to `size`; fewer only at the end of the file.
  virtual absl::StatusOr<size_t> Read(uint64_t offset, char* to, size_t size) = 0;
  // All of `bytes`, or an error.
  virtual absl::Status Write(uint64_t offset, std::string_view bytes) = 0;
  virtual absl::Status Truncate(uint64_t size) = 0;
  // What was written is on the device when it returns OK.
  virtual absl::Status Sync() = 0;
};

class SpoolDir {
 public:
  virtual ~SpoolDir() = default;

  [[nodiscard]] virtual const std::string& path() const = 0;
  // Regular files and directories, in no order.
  virtual absl::StatusOr<std::vector<SpoolDirEntry>> List() = 0;
  // A new file, 0600; AlreadyExists.
  virtual absl::StatusOr<std::unique_ptr<SpoolFile>> Create(const std::string& name) = 0;
  virtual absl::StatusOr<std::unique_ptr<SpoolFile>> Open(const std::string& name,
                                                          SpoolAccess access) = 0;
  // Moves a file at once, within the directory (`to` == this) or into another; AlreadyExists.
  virtual absl::Status Rename(const std::string& name, SpoolDir* to,
                              const std::string& new_name) = 0;
  virtual absl::Status Remove(const std::string& name) = 0;
  // Names made, moved and removed are on the device when it returns OK.
  virtual absl::Status Sync() = 0;

  virtual absl::Status MakeDir(const std::string& name) = 0;  // 0700; AlreadyExists
  // PermissionDenied for one that anybody may write or that is somebody else's; but root may read others' (`kRead`).
  virtual absl::StatusOr<std::unique_ptr<SpoolDir>> OpenDir(const std::string& name,
                                                            SpoolAccess access) = 0;
  virtual absl::Status RemoveDir(const std::string& name) = 0;

  // Takes the lock file kSpoolLockName, made when missing, and keeps it while this object lives. False:
  // somebody else has it.
  virtual absl::StatusOr<bool> TryLock() = 0;
  // Whether somebody has the lock; makes no file.
  [[nodiscard]] virtual bool Locked() = 0;
  // Its path still leads to it: it was not removed, and no other file system lies in its place.
  [[nodiscard]] virtual bool StillThere() = 0;
  // What an unprivileged process may still write.
  virtual absl::StatusOr<uint64_t> FreeBytes() = 0;
};

inline constexpr char kSpoolLockName[] = "lock";

class SpoolDisk {
 public:
  virtual ~SpoolDisk() = default;
  // `kWrite` makes it (0700) and what is missing above.
  virtual absl::StatusOr<std::unique_ptr<SpoolDir>> OpenRoot(const std::string& path,
                                                             SpoolAccess access) = 0;
};

// The disk of the machine. Lives as long as the process.
SpoolDisk* PosixSpoolDisk();

}  // namespace mobula
