// The file for documents that nobody takes: refused at the door or by a far side, each with the reason.
//
// Room:    warm; one line per refused document.
// Threads: any; a mutex keeps lines whole.
// Errors:  a line that cannot be written is counted as lost and told in the log; nothing waits or fails for it.
// Limits:  `size` bytes in the file and as many in its one rotated generation (`.1`); mode 0600, because
//          documents may hold personal data. The format is in docs/wire/file.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "backends/file/append_file.h"
#include "engine/base/mutex.h"
#include "engine/config/config.h"
#include "engine/delivery/exporter.h"

namespace mobula {

class Log;

class DeadLetterFile {
 public:
  // REQUIRES: config.path not empty.
  static absl::StatusOr<std::unique_ptr<DeadLetterFile>> Open(
      const DeadLetterConfig& config, Log* log, OtherWriter other_writer = OtherWriter::kMistake);

  // `backend` is empty for a document refused at the door; `code` is the far side's word, or empty.
  void Write(std::string_view reason, std::string_view backend, std::string_view code,
             std::string_view document) ABSL_LOCKS_EXCLUDED(mutex_);
  // SIGHUP: opens the file by its name again.
  void Reopen() ABSL_LOCKS_EXCLUDED(mutex_);

  // Lines that could not be written.
  [[nodiscard]] uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  DeadLetterFile(AppendFile file, Log* log) : log_(log), file_(std::move(file)) {}

  Log* const log_;
  std::atomic<uint64_t> lost_{0};  // any thread writes
  Mutex mutex_;
  AppendFile file_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace mobula
