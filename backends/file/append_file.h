// A regular file that grows by whole appends: each is in it completely or not at all.
//
// Room:      warm.
// Lifecycle: made without I/O, Open (Append does it too), Append..., Close or destroyed.
// Threads:   one at a time; the caller's.
// Ownership: holds a lock (flock) on the open file, so that a second writer is refused.
// Errors:    absl::Status, by meaning: ResourceExhausted: no room; PermissionDenied; FailedPrecondition: somebody
//            else writes the file; InvalidArgument: the path can never work; DataLoss: the device fails;
//            Unavailable: the rest. After any of them Append may be called again.
// Limits:    writes wait for the kernel's page cache, Sync for the device.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/unique_fd.h"

namespace mobula {

class Log;

// What `error` (an errno) about `path` means.
absl::Status FileError(int error, std::string_view path);

class AppendFile {
 public:
  struct Options {
    std::string path;
    // The end of `path` that stays last in the names of rotated files: ".gz", ".zst" or nothing.
    std::string suffix;
    // For its owner alone: the file gets 0600 and its folder 0700 where they are made, nothing follows a symbolic link
    // in the last component of the path, and a file of somebody else or with a second name is refused. Else 0640 and
    // 0750.
    bool secret = false;
    uint64_t rotate_size = 0;  // bytes; 0: never
    int rotate_keep = 5;       // rotated files kept; at least 1
    // Also sync the folder of a new file, and a file before it is closed or rotated away.
    bool sync = false;
    std::string header;  // what an empty file begins with
    // How many leading bytes of the file are whole records, or nothing when the file is not of our making.
    // Absent: the file is lines of text.
    std::function<absl::StatusOr<std::optional<uint64_t>>(int fd)> whole_bytes;
  };

  // A torn tail up to this size is cut off; a larger one is no torn write but damage, and is set aside.
  static constexpr uint64_t kTornBytesMax = 1U << 20;

  AppendFile(Options options, Log* log);

  // Opens or creates the file, with the folders above it, and mends its tail: what an interrupted
  // write left of a record is cut off, or for lines of text ended with a newline; a file that is damaged
  // or not ours is renamed to `<path>.damaged-<epoch seconds>`.
  absl::Status Open();
  // Adds `bytes`, after rotating when they would make the file larger than allowed. On an error the file
  // is cut back to what it was.
  absl::Status Append(std::string_view bytes);
  // Adds `bytes` and waits until they are on the device; cut back when that fails.
  absl::Status AppendAndSync(std::string_view bytes);
  // Waits until what was appended is on the device.
  absl::Status Sync();
  // When `path` no longer names the open file (somebody renamed it): opens `path`, then closes the old one.
  // On an error the old one stays in use.
  absl::Status Reopen();
  void Close();

  [[nodiscard]] const std::string& path() const noexcept { return options_.path; }

 private:
  struct Opened {
    UniqueFd fd;
    bool needs_newline = false;
  };

  absl::StatusOr<Opened> OpenPath();
  void Use(Opened opened);
  absl::Status MendTail(Opened* opened, bool* set_aside);
  absl::Status Prepare(size_t bytes, uint64_t* size);
  absl::Status Rotate();
  absl::Status Write(std::string_view bytes);
  void CutBack(uint64_t size);
  [[nodiscard]] std::string RotatedName(int number) const;

  Options options_;
  Log* log_;
  UniqueFd fd_;
  bool needs_newline_ = false;       // lines only: the last line has no end yet
  std::optional<uint64_t> torn_at_;  // a half-written record begins here and could not be cut off
};

}  // namespace mobula
