// Who may read or change an open file beside root and us.
//
// Room: cold.
#pragma once

#include <sys/types.h>

#include <optional>

namespace mobula {

struct FileExposure {
  unsigned mode = 0;  // its permission bits
  bool anybody_writes = false;
  bool anybody_reads = false;
  bool group_reads = false;       // a group that we are not in
  std::optional<uid_t> stranger;  // its owner
};

// What is no regular file, such as a pipe, exposes nothing. Where the file system is mounted read-only, as Kubernetes
// does with ConfigMaps, nobody writes. An owner that this user namespace does not know is none.
FileExposure ExposureOf(int fd) noexcept;

}  // namespace mobula
