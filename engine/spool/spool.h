// The spool: documents that wait on disk for their backend, and survive the process.
//
// Room:      warm: per batch; every call may wait for the disk.
// Lifecycle: opened once per process, after its backends are known; Housekeep about once a second; Close, destroyed
//            after the lanes' threads have ended. A SpoolLane lives as long as the Spool.
// Threads:   any. One thread at a time uses a given SpoolLane. One lock guards the books, held while the disk
//            works, so that a disk that hangs hangs all lanes that spool.
// Errors:    the disk never ends the program: Append answers an error and the documents stay the caller's; a
//            spool without its directory is "off", says why, and tries again. Foreign and damaged files are
//            set aside and counted.
// Limits:    `bytes_max` on disk for all lanes and what was set aside. When it is full, files set aside go first,
//            then the lane that holds most loses its oldest file, so that each can count on its fair share
//            and use what others leave. In memory: one frame per call, 250 bytes a file, 20,000 files.
//
// Promise: a document whose Append returned OK is found again after kill -9 at any instant, and with
// Fsync::kBatch after a power failure too, until Done: at least once. It comes twice when the process dies
// between its delivery and the mark of Done on disk (16 bytes, not synced): after a kill that is the frames lent at
// that moment; after a power failure also those whose marks had not reached the device.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/base/time.h"
#include "engine/batch/batch.h"
#include "engine/spool/spool_account.h"
#include "engine/spool/spool_disk.h"
#include "engine/spool/spool_format.h"

namespace mobula {

class Log;
class Spool;
class SpoolHome;

// A backend that spools. What was spooled for it goes nowhere else: `identity` says what makes it the same far
// side (type, endpoint, region, role...), in any form that does not change between runs.
struct SpoolTarget {
  std::string backend;
  std::string identity;
};

struct SpoolItem {
  const Batch* batch;
  DocumentSet documents;
};

// One backend's part of the spool. The lane's thread uses it.
class SpoolLane {
 public:
  // OK: the documents are on disk and no longer the caller's. Else nothing of the batch is.
  absl::Status Append(const Batch& batch, DocumentSet documents, SystemTime now);
  // Many in one write, with one wait for the device where Fsync::kBatch wants it. OK: the first `*appended` items, one at
  // least, are on disk; the rest did not fit into that write, and are asked for again. Else none is.
  absl::Status Append(std::span<const SpoolItem> items, SystemTime now, size_t* appended);

  // Lends the oldest frame that is not lent; nothing when there is none, or when the disk cannot be read now.
  // Frames put back take turns with unread ones.
  std::optional<SpooledFrame> Next(SystemTime now);
  // These documents of a lent frame are delivered or finally dropped. When none is left the frame is over.
  void Done(uint64_t token, DocumentSet documents);
  void Done(uint64_t token) { Done(token, ~DocumentSet{0}); }
  // What is left of a lent frame shall be lent again, later.
  void Again(uint64_t token);

  // Next may have something: files not yet read to their end, or frames put back.
  [[nodiscard]] bool waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }
  [[nodiscard]] const std::string& backend() const noexcept { return target_.backend; }
  [[nodiscard]] const SpoolAccount& account() const noexcept { return account_; }

  ~SpoolLane();
  SpoolLane(const SpoolLane&) = delete;
  SpoolLane& operator=(const SpoolLane&) = delete;

 private:
  friend class Spool;

  struct File {
    std::string name;
    SpoolFileHeader header;
    uint64_t size = 0;       // on disk
    uint64_t bytes = 0;      // of it, up to the end of the last frame
    uint64_t cursor = 0;     // where the next frame to be lent begins
    uint64_t documents = 0;  // held
    uint64_t out = 0;        // frames lent or put back
    SystemTime newest{};     // its last frame
    bool surveyed = false;   // its documents were counted
    bool damaged = false;
    bool dirty = false;  // something was written and not synced
    int reads_failed = 0;
    std::shared_ptr<SpoolFile> handle;  // open from the first access on
    // Why it was dropped, while frames of it are lent.
    std::optional<SpoolDropReason> gone;
  };
  using FileRef = std::shared_ptr<File>;
  struct Loan {
    uint64_t token = 0;
    FileRef file;
    uint64_t offset = 0;
    DocumentSet all = 0;
    DocumentSet remaining = 0;
  };
  // A frame encoded and not yet written.
  struct Encoded {
    size_t begin = 0;  // in the buffer
    size_t end = 0;
    uint64_t documents = 0;
  };

  SpoolLane(Spool* spool, SpoolTarget target);

  Spool* const spool_;
  const SpoolTarget target_;
  const uint64_t identity_;
  SpoolAccount account_;
  std::atomic<bool> waiting_{false};

  // The lane's thread only; made when needed, freed when the lane has nothing on disk.
  std::unique_ptr<SpoolEncoder> encoder_;
  std::unique_ptr<SpoolDecoder> decoder_;
  std::string buffer_;

  // Guarded by the spool's mutex.
  bool detached_ = false;
  std::deque<FileRef> files_;  // oldest first
  FileRef current_;            // the one appended to; in files_ too
  std::vector<Loan> lent_;
  std::deque<Loan> again_;
  bool again_next_ = false;
  SystemTime read_failed_{};  // the disk could not be read then: rest a little
};

class Spool {
 public:
  enum class Fsync : uint8_t {
    kNever,     // the kernel writes when it likes: a power failure loses up to about 30 s
    kInterval,  // Housekeep syncs what is older than `fsync_interval`
    kBatch,     // Append waits for the device
  };
  struct Options {
    std::string path;
    uint64_t bytes_max = 1U << 30;       // at least kBytesMin
    uint64_t file_bytes_max = 8U << 20;  // less where a lane's share is less than eight files
    Duration age_max = std::chrono::hours(24);
    Fsync fsync = Fsync::kInterval;
    Duration fsync_interval = std::chrono::seconds(1);
    uint64_t seed = 0;  // for names and ids, another one each time; 0: random
  };
  static constexpr uint64_t kBytesMin = 1U << 20;
  static constexpr uint64_t kFileBytesMax = 256U << 20;

  struct State {
    bool on = false;         // there is a directory and it takes frames
    std::string text;        // for people: where, or what is wrong
    uint64_t bytes = 0;      // on disk, all of it
    uint64_t files = 0;      // waiting to be sent
    uint64_t unread = 0;     // of these, files whose documents are not counted yet
    uint64_t foreign = 0;    // files set aside for their backend, since the start
    uint64_t damaged = 0;    // files set aside as damaged, since the start
    uint64_t set_aside = 0;  // bytes of such files on disk now
  };

  // Fails on options that are wrong; not on the disk's account.
  static absl::StatusOr<std::unique_ptr<Spool>> Open(const Options& options,
                                                     const std::vector<SpoolTarget>& targets,
                                                     SpoolDisk* disk, Log* log, SystemTime now);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // The lane of a backend, the first of that name; null when there is none.
  [[nodiscard]] SpoolLane* lane(std::string_view backend);
  // The lane of this very target; null when there is none.
  [[nodiscard]] SpoolLane* lane(const SpoolTarget& target);
  // A backend more, as after a reload; takes back what had been set aside for it. There may be others of its name.
  // REQUIRES: no lane of that target.
  SpoolLane* Attach(const SpoolTarget& target);
  // The backend is no longer configured: its files are set aside, its documents counted as foreign. The lane
  // stays, empty, and refuses. REQUIRES: its thread has ended or will not use it any more.
  void Detach(SpoolLane* lane);
  // Nobody looks at it any more. REQUIRES: it is detached and has lent nothing.
  void Remove(SpoolLane* lane);

  // Tries again what failed, adopts what other instances left, drops what is too old, syncs.
  void Housekeep(SystemTime now);

  // The end: what was written is on the device (not with Fsync::kNever), the directory is another's to adopt, or gone
  // when it is empty. From now on it is off; the accounts stay.
  void Close();

  [[nodiscard]] State state() const;

 private:
  friend class SpoolLane;
  using File = SpoolLane::File;
  using FileRef = SpoolLane::FileRef;
  using Loan = SpoolLane::Loan;
  using Encoded = SpoolLane::Encoded;

  // A file whose header could not be read.
  struct Untaken {
    SpoolDirEntry entry;
    int tries = 0;
    SystemTime tried{};
  };

  // What becomes of a file on disk.
  enum class Fate : uint8_t { kRemoved, kForeign, kDamaged, kGone };

  Spool(const Options& options, SpoolDisk* disk, Log* log);

  // --- the directory
  void TryStart(SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AdoptSiblings(SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `tries`: how often it was tried before.
  void Take(const SpoolDirEntry& entry, SystemTime now, int tries = 0)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeAgain(SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Renames a file so that it is not sent, and counts it.
  void PutAside(const SpoolDirEntry& entry, Fate fate, std::string_view why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- writing
  // As many of `frames` as go into one file.
  absl::Status Write(SpoolLane* lane, std::span<const Encoded> frames, SystemTime now,
                     size_t* written) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All of them, or none.
  absl::Status WriteGroup(SpoolLane* lane, std::span<const Encoded> frames, SystemTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Begin(SpoolLane* lane, SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Seal(SpoolLane* lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status Accepts(const SpoolLane& lane, SystemTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteWrite(const absl::Status& status, SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] uint64_t FileBytesMax() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- reading
  bool Lend(SpoolLane* lane, SystemTime now, SpoolFrameHeader* header, std::string* stored,
            uint64_t* token) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  FileRef Unread(SpoolLane* lane, SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts what a file from before holds, and cuts a torn end off.
  absl::Status Survey(SpoolLane* lane, File* file, SystemTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OpenHandle(File* file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadFailed(SpoolLane* lane, const FileRef& file, const absl::Status& status, SystemTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FrameDamaged(SpoolLane* lane, const Loan& loan) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteDamage(SpoolLane* lane, File* file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Settle(SpoolLane* lane, Loan* loan, DocumentSet documents)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateWaiting(SpoolLane* lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- letting go
  // Deletes or sets aside a file all of whose frames are settled.
  void FinishIfDone(SpoolLane* lane, const FileRef& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Lets go of a file with documents in it; those lent meanwhile may still be Done.
  absl::Status DropFile(SpoolLane* lane, const FileRef& file, SpoolDropReason reason, Fate fate,
                        SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Off the books.
  void Forget(SpoolLane* lane, const FileRef& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MakeRoom(uint64_t bytes, SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RemoveAll(std::vector<SpoolDirEntry>* files, size_t count)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Expire(SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The directory was removed or replaced under our hands.
  void LoseAll(SystemTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Without the lock: it takes a while.
  void SyncDirty() ABSL_LOCKS_EXCLUDED(mutex_);

  void Resize(SpoolLane* lane, File* file, uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  SpoolDisk* const disk_;
  Log* const log_;

  mutable Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<SpoolLane>> lanes_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SpoolHome> home_ ABSL_GUARDED_BY(mutex_);  // null: off
  std::string off_ ABSL_GUARDED_BY(mutex_);                  // why
  std::string refusing_ ABSL_GUARDED_BY(mutex_);  // why Append failed last; empty: it did not
  SystemTime refused_ ABSL_GUARDED_BY(mutex_){};
  SystemTime tried_ ABSL_GUARDED_BY(mutex_){};  // to start or to adopt
  SystemTime synced_ ABSL_GUARDED_BY(mutex_){};
  uint64_t names_ ABSL_GUARDED_BY(mutex_) = 0;  // given to files so far
  uint32_t name_token_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // of frames lent so far
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool names_dirty_ ABSL_GUARDED_BY(mutex_) = false;  // files made or removed and not synced
  std::vector<Untaken> untaken_ ABSL_GUARDED_BY(mutex_);
  std::vector<SpoolDirEntry> set_aside_ ABSL_GUARDED_BY(mutex_);
  // Files that are done with and could not be removed yet.
  std::vector<SpoolDirEntry> doomed_ ABSL_GUARDED_BY(mutex_);
  uint64_t foreign_files_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t damaged_files_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace mobula
