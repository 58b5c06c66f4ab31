// Takes from the running agent what it has no use for, as `security` of the configuration says: another user's identity,
// privileges, system calls.
//
// Room:      cold.
// Lifecycle: Begin before any file is opened, made, TellExposedFiles, SocketsBound, FilterCalls, Enter in each thread.
// Threads:   Begin to FilterCalls by the first thread, the first two while it is the only one; Enter by each.
// Errors:    only a `security.user` that cannot be had; what the kernel or the container forbids is told in the log.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/config/config.h"
#include "engine/harden/syscall_filter.h"

namespace mobula {

class Hardening {
 public:
  // Becomes `security.user`; the folders of the files that will be written are made for that user.
  static absl::Status Begin(const Config& config);

  // `log` outlives it.
  Hardening(const Config& config, Log* log);

  // Warns of credentials that others may read.
  void TellExposedFiles() const;
  // Privileges are of no more use.
  void SocketsBound();
  // Neither are system calls that no thread of ours makes. `io_uring`: the receivers receive by it.
  void FilterCalls(bool io_uring);
  // The calling thread, and those that it starts from here on, keep to their role.
  void Enter(ThreadRole role) const;

 private:
  const Config& config_;
  Log* const log_;
  std::optional<SyscallFilter> filter_;  // while it is in force
};

}  // namespace mobula
