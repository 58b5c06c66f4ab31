// The books: which files there are, which frames are lent, what the disk may still hold.
// Tested by tests/unit/engine/spool/spool_test.cc, spool_crash_test.cc, spool_kill_test.cc and
// tests/fuzz/spool_fuzz.cc.
#include "engine/spool/spool.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"
#include "engine/spool/spool_home.h"
#include "engine/spool/spool_reader.h"

namespace mobula {
namespace {

constexpr std::string_view kReady = ".spool";
constexpr std::string_view kForeign = ".foreign";
constexpr std::string_view kDamaged = ".damaged";

constexpr Duration kRetry = std::chrono::seconds(10);  // to start, to adopt
constexpr Duration kRefuse = std::chrono::seconds(1);  // after the disk refused: no new try
constexpr int kReadsMax = 3;                           // of a file that answers errors
constexpr size_t kGroupBytes = 512U << 10;             // written at once
constexpr size_t kFilesMax = 20'000;
constexpr int kNamesMax = 1'000;  // tried for a new file
constexpr int kSurveysPerHousekeep = 8;
constexpr uint64_t kSharesPerFile = 8;
constexpr uint64_t kFileBytesMin = 64U << 10;

// True too when the clock was set back.
bool Elapsed(SystemTime now, SystemTime since, Duration wait) {
  return now < since || now - since >= wait;
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

std::string_view SpoolDropReasonName(SpoolDropReason reason) noexcept {
  switch (reason) {
    case SpoolDropReason::kFull:
      return "spool_full";
    case SpoolDropReason::kExpired:
      return "spool_expired";
    case SpoolDropReason::kDamaged:
      return "spool_damaged";
    case SpoolDropReason::kForeign:
      return "spool_foreign";
  }
  return "";
}

// --- the lane's side: encoding and decoding without the lock -------------------------------------------

SpoolLane::SpoolLane(Spool* spool, SpoolTarget target)
    : spool_(spool),
      target_(std::move(target)),
      identity_(SpoolIdentity(target_.backend, target_.identity)) {}

SpoolLane::~SpoolLane() = default;

absl::Status SpoolLane::Append(const Batch& batch, DocumentSet documents, SystemTime now) {
  const SpoolItem item{&batch, documents};
  size_t appended = 0;
  return Append({&item, 1}, now, &appended);
}

absl::Status SpoolLane::Append(std::span<const SpoolItem> items, SystemTime now, size_t* appended) {
  *appended = 0;
  {
    MutexLock lock(&spool_->mutex_);
    RETURN_IF_ERROR(spool_->Accepts(*this, now));
  }
  if (encoder_ == nullptr) encoder_ = std::make_unique<SpoolEncoder>();
  std::vector<Encoded> frames;
  buffer_.clear();
  for (const SpoolItem& item : items) {
    const size_t begin = buffer_.size();
    if (begin >= kGroupBytes || !encoder_->Encode(*item.batch, item.documents, now, &buffer_)) {
      break;
    }
    const DocumentSet documents = item.documents & item.batch->all();
    frames.push_back({begin, buffer_.size(), static_cast<uint64_t>(Count(documents))});
  }
  if (frames.empty()) return absl::InvalidArgumentError("no documents to be sent");
  MutexLock lock(&spool_->mutex_);
  return spool_->Write(this, frames, now, appended);
}

std::optional<SpooledFrame> SpoolLane::Next(SystemTime now) {
  std::string stored;
  for (;;) {
    SpoolFrameHeader header;
    SpooledFrame frame;
    {
      MutexLock lock(&spool_->mutex_);
      const bool lent = spool_->Lend(this, now, &header, &stored, &frame.token);
      spool_->UpdateWaiting(this);
      if (!lent) return std::nullopt;
    }
    if (decoder_ == nullptr) decoder_ = std::make_unique<SpoolDecoder>();
    if (decoder_->Decode(header, stored, &frame)) return frame;
    MutexLock lock(&spool_->mutex_);
    const auto loan = std::find_if(lent_.begin(), lent_.end(),
                                   [&](const Loan& l) { return l.token == frame.token; });
    const Loan damaged = *loan;
    lent_.erase(loan);
    spool_->FrameDamaged(this, damaged);
  }
}

void SpoolLane::Done(uint64_t token, DocumentSet documents) {
  MutexLock lock(&spool_->mutex_);
  const auto loan =
      std::find_if(lent_.begin(), lent_.end(), [&](const Loan& l) { return l.token == token; });
  if (loan == lent_.end()) return;
  spool_->Settle(this, &*loan, documents);
  if (loan->remaining != 0) return;
  const FileRef file = loan->file;
  lent_.erase(loan);
  --file->out;
  spool_->FinishIfDone(this, file);
  spool_->UpdateWaiting(this);
  if (account_.held.value() > 0) return;
  encoder_.reset();
  decoder_.reset();
  buffer_ = {};
}

void SpoolLane::Again(uint64_t token) {
  MutexLock lock(&spool_->mutex_);
  const auto loan =
      std::find_if(lent_.begin(), lent_.end(), [&](const Loan& l) { return l.token == token; });
  if (loan == lent_.end()) return;
  if (loan->file->gone.has_value()) {
    const auto documents = static_cast<uint64_t>(Count(loan->remaining));
    account_.Drop(*loan->file->gone, documents);
    loan->file->documents -= documents;
    --loan->file->out;
  } else {
    again_.push_back(*loan);
  }
  lent_.erase(loan);
  spool_->UpdateWaiting(this);
}

// --- the directory -------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(const Options& options,
                                                   const std::vector<SpoolTarget>& targets,
                                                   SpoolDisk* disk, Log* log, SystemTime now) {
  if (options.path.empty()) return absl::InvalidArgumentError("the spool has no path");
  if (options.bytes_max < kBytesMin) {
    return absl::InvalidArgumentError(
        fmt::format("a spool needs {} bytes at least, not {}", kBytesMin, options.bytes_max));
  }
  if (options.file_bytes_max == 0 || options.file_bytes_max > kFileBytesMax) {
    return absl::InvalidArgumentError(
        fmt::format("a spool file may have 1 to {} bytes", kFileBytesMax));
  }
  if (options.age_max <= Duration::zero()) {
    return absl::InvalidArgumentError("the spool's age limit must be more than nothing");
  }
  auto spool = std::unique_ptr<Spool>(new Spool(options, disk, log));
  MutexLock lock(&spool->mutex_);
  for (const SpoolTarget& target : targets) {
    if (target.backend.empty() || target.backend.size() > kSpoolBackendNameMax) {
      return absl::InvalidArgumentError(
          fmt::format("a backend's name has 1 to {} bytes", kSpoolBackendNameMax));
    }
    spool->lanes_.push_back(std::unique_ptr<SpoolLane>(new SpoolLane(spool.get(), target)));
  }
  spool->TryStart(now);
  return spool;
}

Spool::Spool(const Options& options, SpoolDisk* disk, Log* log)
    : options_(options), disk_(disk), log_(log) {
  MutexLock lock(&mutex_);
  random_.seed(options.seed != 0 ? options.seed
                                 : uint64_t{std::random_device()()} << 32 | std::random_device()());
  name_token_ = static_cast<uint32_t>(random_());
}

Spool::~Spool() { Close(); }

void Spool::Close() {
  if (options_.fsync != Fsync::kNever) SyncDirty();
  MutexLock lock(&mutex_);
  for (const auto& lane : lanes_) {
    for (const FileRef& file : lane->files_) file->handle.reset();
  }
  home_.reset();
  off_ = "closed";
}

SpoolLane* Spool::lane(std::string_view backend) {
  MutexLock lock(&mutex_);
  for (const auto& lane : lanes_) {
    if (!lane->detached_ && lane->backend() == backend) return lane.get();
  }
  return nullptr;
}

SpoolLane* Spool::lane(const SpoolTarget& target) {
  MutexLock lock(&mutex_);
  for (const auto& lane : lanes_) {
    const SpoolTarget& its = lane->target_;
    if (!lane->detached_ && its.backend == target.backend && its.identity == target.identity) {
      return lane.get();
    }
  }
  return nullptr;
}

void Spool::TryStart(SystemTime now) {
  tried_ = now;
  absl::StatusOr<std::unique_ptr<SpoolHome>> home =
      SpoolHome::Open(options_.path, disk_, &random_, log_);
  absl::StatusOr<std::vector<SpoolDirEntry>> entries =
      home.ok() ? (*home)->dir()->List() : home.status();
  if (!entries.ok()) {
    off_ = Text(entries.status());
    log_->Warn("spool_off", "there is no spool: what memory cannot hold is dropped",
               {{"key", options_.path}, {"error", off_}});
    return;
  }
  home_ = *std::move(home);
  off_.clear();
  refusing_.clear();
  for (const SpoolDirEntry& entry : *entries) Take(entry, now);
  AdoptSiblings(now);
  log_->Info("spool_ready", "the spool is ready",
             {{"path", home_->dir()->path()}, {"bytes", bytes_}});
  const absl::StatusOr<uint64_t> free = home_->dir()->FreeBytes();
  if (free.ok() && bytes_ + *free < options_.bytes_max) {
    log_->Warn("spool_disk_small", "the disk has less room than the spool may take",
               {{"path", options_.path}, {"free", *free}, {"size", options_.bytes_max}});
  }
}

void Spool::AdoptSiblings(SystemTime now) {
  tried_ = now;
  const absl::StatusOr<std::vector<SpoolDirEntry>> came =
      home_->AdoptSiblings(options_.fsync != Fsync::kNever);
  if (!came.ok()) {
    log_->Warn("spool_not_adopted", "cannot look for what other instances left",
               {{"key", options_.path}, {"error", Text(came.status())}});
    return;
  }
  for (const SpoolDirEntry& entry : *came) Take(entry, now);
}

// Judges a file of our directory by its header.
void Spool::Take(const SpoolDirEntry& entry, SystemTime now, int tries) {
  if (entry.directory || entry.name == kSpoolLockName) return;
  const bool was_foreign = entry.name.ends_with(kForeign);
  if (entry.name.ends_with(kDamaged)) {
    set_aside_.push_back(entry);
    bytes_ += entry.bytes;
    return;
  }
  if (!was_foreign && !entry.name.ends_with(kReady)) return;
  size_t files = 0;
  for (const auto& lane : lanes_) files += lane->files_.size();
  if (files >= kFilesMax) {
    log_->Warn("spool_files_many", "too many files: some wait for the next start",
               {{"path", home_->dir()->path()}});
    return;
  }

  char bytes[kSpoolFileHeaderBytes] = {};
  absl::StatusOr<std::unique_ptr<SpoolFile>> handle =
      home_->dir()->Open(entry.name, SpoolAccess::kRead);
  const absl::StatusOr<size_t> n =
      handle.ok() ? (*handle)->Read(0, bytes, sizeof(bytes)) : handle.status();
  if (absl::IsNotFound(n.status())) return;
  if (!n.ok()) {
    log_->Warn("spool_unreadable", "a spool file cannot be read",
               {{"key", entry.name}, {"error", Text(n.status())}});
    if (tries + 1 == kReadsMax) return PutAside(entry, Fate::kDamaged, Text(n.status()));
    bytes_ += entry.bytes;
    return untaken_.push_back({entry, tries + 1, now});
  }
  if (IsUnwrittenHeader({bytes, *n})) {
    if (home_->dir()->Remove(entry.name).ok()) return;
    return PutAside(entry, Fate::kDamaged, "no header");
  }
  const absl::StatusOr<SpoolFileHeader> header = DecodeFileHeader({bytes, *n});
  if (absl::IsUnimplemented(header.status())) {
    return PutAside(entry, Fate::kForeign, Text(header.status()));
  }
  if (!header.ok() || entry.bytes > 2 * kFileBytesMax) {
    return PutAside(entry, Fate::kDamaged,
                    header.ok() ? "larger than a spool file can be" : Text(header.status()));
  }
  const auto owner = std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
    return !lane->detached_ && lane->backend() == header->backend &&
           lane->identity_ == header->identity;
  });
  if (owner == lanes_.end()) {
    return PutAside(entry, Fate::kForeign, "its backend is not configured, or is another now");
  }
  SpoolLane* const lane = owner->get();
  const auto file = std::make_shared<File>();
  file->name = entry.name;
  if (was_foreign) {
    std::string name = entry.name.substr(0, entry.name.size() - kForeign.size());
    if (home_->dir()->Rename(entry.name, home_->dir(), name).ok()) file->name = std::move(name);
  }
  file->header = *header;
  file->bytes = entry.bytes;
  file->cursor = kSpoolFileHeaderBytes;
  file->newest = std::min(header->created, now);
  Resize(lane, file.get(), entry.bytes);
  const auto at =
      std::upper_bound(lane->files_.begin(), lane->files_.end(), file,
                       [](const FileRef& a, const FileRef& b) { return a->name < b->name; });
  lane->files_.insert(at, file);
  UpdateWaiting(lane);
}

void Spool::TakeAgain(SystemTime now) {
  for (Untaken& file : std::exchange(untaken_, {})) {
    if (!Elapsed(now, file.tried, kRefuse)) {
      untaken_.push_back(std::move(file));
      continue;
    }
    bytes_ -= file.entry.bytes;
    Take(file.entry, now, file.tries);
  }
}

void Spool::PutAside(const SpoolDirEntry& entry, Fate fate, std::string_view why) {
  SpoolDirEntry aside = entry;
  const std::string_view suffix = fate == Fate::kForeign ? kForeign : kDamaged;
  if (!aside.name.ends_with(suffix)) {
    aside.name.append(suffix);
    // Where it cannot be renamed it is left alone by this process all the same.
    if (!home_->dir()->Rename(entry.name, home_->dir(), aside.name).ok()) aside.name = entry.name;
    names_dirty_ = true;
  }
  bytes_ += aside.bytes;
  const std::string path = home_->dir()->path() + "/" + aside.name;
  if (fate == Fate::kForeign) {
    ++foreign_files_;
    log_->Warn("spool_foreign", "a spool file is not for any backend of this configuration",
               {{"path", path}, {"why", why}});
  } else {
    ++damaged_files_;
    log_->Error("spool_damaged", "a spool file is damaged: set aside",
                {{"path", path}, {"why", why}});
  }
  set_aside_.push_back(std::move(aside));
}

SpoolLane* Spool::Attach(const SpoolTarget& target) {
  CHECK(lane(target) == nullptr);
  MutexLock lock(&mutex_);
  lanes_.push_back(std::unique_ptr<SpoolLane>(new SpoolLane(this, target)));
  SpoolLane* const lane = lanes_.back().get();
  if (home_ == nullptr) return lane;
  const SystemTime now = tried_;
  for (const SpoolDirEntry& entry : std::exchange(set_aside_, {})) {
    if (!entry.name.ends_with(kForeign)) {
      set_aside_.push_back(entry);
      continue;
    }
    bytes_ -= entry.bytes;
    Take(entry, now);
  }
  return lane;
}

void Spool::Detach(SpoolLane* lane) {
  MutexLock lock(&mutex_);
  lane->detached_ = true;
  while (!lane->files_.empty()) {
    const FileRef file = lane->files_.front();
    DropFile(lane, file, SpoolDropReason::kForeign, Fate::kForeign, tried_).IgnoreError();
  }
  UpdateWaiting(lane);
}

void Spool::Remove(SpoolLane* lane) {
  MutexLock lock(&mutex_);
  CHECK(lane->detached_ && lane->lent_.empty());
  std::erase_if(lanes_, [lane](const auto& other) { return other.get() == lane; });
}

// --- writing -------------------------------------------------------------------------------------------

absl::Status Spool::Accepts(const SpoolLane& lane, SystemTime now) {
  if (lane.detached_) return absl::FailedPreconditionError("the backend was removed");
  if (home_ == nullptr) return absl::UnavailableError(off_);
  // A disk that refused is not asked for every batch.
  if (!refusing_.empty() && !Elapsed(now, refused_, kRefuse)) {
    return absl::UnavailableError(refusing_);
  }
  return absl::OkStatus();
}

void Spool::NoteWrite(const absl::Status& status, SystemTime now) {
  if (status.ok()) {
    if (refusing_.empty()) return;
    refusing_.clear();
    log_->Info("spool_recovered", "the spool takes documents again", {{"path", options_.path}});
    return;
  }
  if (refusing_.empty()) {
    log_->Warn("spool_refusing", "the spool cannot be written: documents stay in memory",
               {{"key", options_.path}, {"error", Text(status)}});
  }
  refusing_ = Text(status);
  refused_ = now;
}

uint64_t Spool::FileBytesMax() const {
  // The unit in which a full spool forgets: small against a lane's share.
  const uint64_t share = options_.bytes_max / std::max<size_t>(lanes_.size(), 1);
  return std::min(options_.file_bytes_max, std::max(share / kSharesPerFile, kFileBytesMin));
}

absl::Status Spool::Write(SpoolLane* lane, std::span<const Encoded> frames, SystemTime now,
                          size_t* written) {
  RETURN_IF_ERROR(Accepts(*lane, now));
  const uint64_t max = FileBytesMax();
  const auto end_with = [&](size_t count) {
    const uint64_t base = lane->current_ ? lane->current_->bytes : kSpoolFileHeaderBytes;
    return base + frames[count - 1].end;
  };
  if (lane->current_ != nullptr && end_with(1) > max) Seal(lane);
  size_t count = 1;
  while (count < frames.size() && end_with(count + 1) <= max) ++count;
  absl::Status status = WriteGroup(lane, frames.first(count), now);
  if (status.ok()) *written = count;
  NoteWrite(status, now);
  UpdateWaiting(lane);
  return status;
}

absl::Status Spool::WriteGroup(SpoolLane* lane, std::span<const Encoded> frames, SystemTime now) {
  const size_t begin = frames.front().begin;
  const size_t bytes = frames.back().end - begin;
  RETURN_IF_ERROR(MakeRoom(bytes + kSpoolFileHeaderBytes, now));
  if (lane->current_ == nullptr) RETURN_IF_ERROR(Begin(lane, now));
  const FileRef file = lane->current_;
  uint64_t documents = 0;
  for (const Encoded& frame : frames) {
    StampFrame(lane->buffer_.data() + frame.begin, file->header.id);
    documents += frame.documents;
  }
  absl::Status status = file->handle->Write(file->bytes, {lane->buffer_.data() + begin, bytes});
  const bool whole = status.ok();
  if (whole && options_.fsync == Fsync::kBatch) status = file->handle->Sync();
  if (!status.ok()) {
    const bool cut = file->handle->Truncate(file->bytes).ok();
    // After a sync that failed nobody knows what the device has.
    if (!cut || whole) Seal(lane);
    FinishIfDone(lane, file);
    return status;
  }
  Resize(lane, file.get(), file->bytes + bytes);
  file->bytes += bytes;
  file->documents += documents;
  file->newest = now;
  file->dirty = options_.fsync == Fsync::kInterval;
  lane->account_.appended.Add(documents);
  lane->account_.held.Add(documents);
  return absl::OkStatus();
}

absl::Status Spool::Begin(SpoolLane* lane, SystemTime now) {
  const auto file = std::make_shared<File>();
  file->header = {lane->backend(), lane->identity_, random_(), now};
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  absl::StatusOr<std::unique_ptr<SpoolFile>> handle = absl::AlreadyExistsError("");
  for (int attempt = 0; absl::IsAlreadyExists(handle.status()) && attempt < kNamesMax; ++attempt) {
    file->name = fmt::format("{:013}-{:08x}{:08x}-{}{}", ms.count(), name_token_, ++names_,
                             lane->backend(), kReady);
    handle = home_->dir()->Create(file->name);
  }
  RETURN_IF_ERROR(handle.status());
  file->handle = *std::move(handle);
  const std::string header = EncodeFileHeader(file->header);
  absl::Status status = file->handle->Write(0, header);
  if (status.ok() && options_.fsync == Fsync::kBatch) status = home_->dir()->Sync();
  if (!status.ok()) {
    if (!home_->dir()->Remove(file->name).ok()) {
      doomed_.push_back({file->name, false, 0, now});
    }
    return status;
  }
  names_dirty_ = true;
  file->bytes = file->cursor = header.size();
  file->newest = now;
  file->surveyed = true;
  Resize(lane, file.get(), header.size());
  lane->files_.push_back(file);
  lane->current_ = file;
  return absl::OkStatus();
}

// Nothing is appended to it any more.
void Spool::Seal(SpoolLane* lane) {
  if (lane->current_ == nullptr) return;
  if (!lane->current_->dirty) lane->current_->handle.reset();
  lane->current_.reset();
}

// --- reading -------------------------------------------------------------------------------------------

absl::Status Spool::OpenHandle(File* file) {
  if (file->handle != nullptr) return absl::OkStatus();
  if (home_ == nullptr) return absl::UnavailableError(off_);
  ASSIGN_OR_RETURN(file->handle, home_->dir()->Open(file->name, SpoolAccess::kWrite));
  return absl::OkStatus();
}

absl::Status Spool::Survey(SpoolLane* lane, File* file, SystemTime now) {
  if (file->surveyed) return absl::OkStatus();
  RETURN_IF_ERROR(OpenHandle(file));
  ASSIGN_OR_RETURN(const SpoolSurvey survey,
                   SurveyFile(file->handle.get(), file->header, file->bytes));
  file->surveyed = true;
  file->reads_failed = 0;
  file->newest = std::min(survey.newest, now);
  file->documents = survey.remaining;
  lane->account_.restored.Add(survey.remaining);
  lane->account_.held.Add(survey.remaining);
  if (survey.gaps > 0) NoteDamage(lane, file);
  const uint64_t tail = file->bytes - survey.end;
  file->bytes = survey.end;
  if (tail > kSpoolFrameBytesMax) {
    NoteDamage(lane, file);
  } else if (tail > 0) {
    lane->account_.torn.Add();
    log_->Info("spool_torn", "an interrupted write left half a frame: cut off",
               {{"file", file->name}, {"bytes", tail}});
    if (file->handle->Truncate(survey.end).ok()) Resize(lane, file, survey.end);
  }
  file->handle.reset();  // there may be many of them
  return absl::OkStatus();
}

void Spool::NoteDamage(SpoolLane* lane, File* file) {
  if (file->damaged) return;
  file->damaged = true;
  lane->account_.damaged.Add();
}

Spool::FileRef Spool::Unread(SpoolLane* lane, SystemTime now) {
  for (size_t i = 0; i < lane->files_.size();) {
    FileRef file = lane->files_[i];
    if (!file->surveyed) {
      if (const absl::Status status = Survey(lane, file.get(), now); !status.ok()) {
        ReadFailed(lane, file, status, now);
        return nullptr;
      }
      FinishIfDone(lane, file);
      continue;  // the same place: it, or the one behind it
    }
    if (file->cursor < file->bytes) return file;
    ++i;
  }
  return nullptr;
}

void Spool::ReadFailed(SpoolLane* lane, const FileRef& file, const absl::Status& status,
                       SystemTime now) {
  lane->read_failed_ = now;
  ++file->reads_failed;
  log_->Warn("spool_unreadable", "a spool file cannot be read",
             {{"key", file->name}, {"error", Text(status)}});
  const bool missing = absl::IsNotFound(status);
  if (!missing && file->reads_failed < kReadsMax) return;
  const Fate fate = missing ? Fate::kGone : Fate::kDamaged;
  DropFile(lane, file, SpoolDropReason::kDamaged, fate, now).IgnoreError();
}

bool Spool::Lend(SpoolLane* lane, SystemTime now, SpoolFrameHeader* header, std::string* stored,
                 uint64_t* token) {
  const auto resting = [&] {
    return lane->read_failed_ != SystemTime{} && !Elapsed(now, lane->read_failed_, kRefuse);
  };
  while (home_ != nullptr && !resting()) {
    const FileRef unread = Unread(lane, now);
    const bool again = !lane->again_.empty() && (lane->again_next_ || unread == nullptr);
    if (resting() || (!again && unread == nullptr)) return false;
    Loan loan;
    if (again) {
      loan = lane->again_.front();
    } else {
      loan.file = unread;
      loan.offset = unread->cursor;
    }
    File* const file = loan.file.get();
    absl::StatusOr<SpoolReader::Step> step = SpoolReader::Step{};
    absl::Status status = OpenHandle(file);
    if (status.ok()) {
      step = SpoolReader(file->handle.get(), file->header.id, file->bytes, loan.offset).Next();
      status = step.status();
    }
    if (status.ok() && step->found == SpoolReader::Found::kFrame) {
      status = ReadPayload(file->handle.get(), *step, stored);
    }
    if (!status.ok()) {
      ReadFailed(lane, loan.file, status, now);
      return false;
    }
    file->reads_failed = 0;
    if (again) {
      lane->again_.pop_front();
      lane->again_next_ = false;
      if (step->found != SpoolReader::Found::kFrame) {
        FrameDamaged(lane, loan);
        continue;
      }
    } else {
      file->cursor = step->end;
      if (step->found != SpoolReader::Found::kFrame) NoteDamage(lane, file);
      if (step->found != SpoolReader::Found::kFrame || step->header.remaining == 0) {
        FinishIfDone(lane, loan.file);
        continue;
      }
      lane->again_next_ = true;
      loan.all = step->header.all();
      loan.remaining = step->header.remaining;
      ++file->out;
    }
    loan.token = ++tokens_;
    lane->lent_.push_back(loan);
    *header = step->header;
    header->remaining = loan.remaining;
    *token = loan.token;
    return true;
  }
  return false;
}

// A frame, no longer lent, that cannot be decoded.
void Spool::FrameDamaged(SpoolLane* lane, const Loan& loan) {
  const auto documents = static_cast<uint64_t>(Count(loan.remaining));
  File* const file = loan.file.get();
  lane->account_.Drop(file->gone.value_or(SpoolDropReason::kDamaged), documents);
  lane->account_.damaged.Add();
  file->damaged = true;
  file->documents -= documents;
  --file->out;
  log_->Error("spool_damaged", "a frame in a spool file is damaged",
              {{"key", file->name}, {"offset", loan.offset}, {"documents", documents}});
  FinishIfDone(lane, loan.file);
}

void Spool::Settle(SpoolLane* lane, Loan* loan, DocumentSet documents) {
  documents &= loan->remaining;
  if (documents == 0) return;
  loan->remaining &= ~documents;
  const auto count = static_cast<uint64_t>(Count(documents));
  lane->account_.done.Add(count);
  lane->account_.held.Sub(count);
  File* const file = loan->file.get();
  file->documents -= count;
  if (file->gone.has_value()) return;
  absl::Status status = OpenHandle(file);
  if (status.ok()) {
    status = file->handle->Write(loan->offset + kSpoolMarkOffset,
                                 EncodeMark(loan->all & ~loan->remaining));
  }
  if (status.ok()) return;
  log_->Warn("spool_mark_failed", "cannot note a delivery: after a restart it comes again",
             {{"key", file->name}, {"error", Text(status)}});
}

void Spool::UpdateWaiting(SpoolLane* lane) {
  const bool waiting =
      !lane->again_.empty() ||
      std::any_of(lane->files_.begin(), lane->files_.end(), [](const FileRef& file) {
        return !file->surveyed || file->cursor < file->bytes;
      });
  lane->waiting_.store(waiting, std::memory_order_relaxed);
}

// --- letting go ----------------------------------------------------------------------------------------

void Spool::Resize(SpoolLane* lane, File* file, uint64_t size) {
  bytes_ += size - file->size;
  lane->account_.bytes.Add(size - file->size);  // modulo 2^64: down too
  file->size = size;
}

void Spool::Forget(SpoolLane* lane, const FileRef& file) {
  Resize(lane, file.get(), 0);
  if (lane->current_ == file) lane->current_.reset();
  lane->files_.erase(std::find(lane->files_.begin(), lane->files_.end(), file));
}

void Spool::FinishIfDone(SpoolLane* lane, const FileRef& file) {
  if (home_ == nullptr || file->gone.has_value() || !file->surveyed) return;
  const bool read = file->cursor >= file->bytes && file->out == 0;
  if (file->documents > 0 && !read) return;
  if (file->documents > 0) {
    // Counted when its headers were read, and not found now.
    lane->account_.Drop(SpoolDropReason::kDamaged, file->documents);
    file->documents = 0;
    NoteDamage(lane, file.get());
  }
  file->handle.reset();
  const SpoolDirEntry entry{file->name, false, file->size, file->newest};
  Forget(lane, file);
  if (file->damaged) return PutAside(entry, Fate::kDamaged, "some of it could not be read");
  if (const absl::Status removed = home_->dir()->Remove(entry.name);
      !removed.ok() && !absl::IsNotFound(removed)) {
    bytes_ += entry.bytes;
    doomed_.push_back(entry);
  }
  names_dirty_ = true;
}

absl::Status Spool::DropFile(SpoolLane* lane, const FileRef& dropped, SpoolDropReason reason,
                             Fate fate, SystemTime now) {
  const FileRef file = dropped;
  if (fate != Fate::kGone) Survey(lane, file.get(), now).IgnoreError();
  if (fate == Fate::kRemoved) {
    absl::Status removed = home_->dir()->Remove(file->name);
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
    names_dirty_ = true;
  }
  uint64_t lent = 0;
  for (const Loan& loan : lane->lent_) {
    if (loan.file == file) lent += static_cast<uint64_t>(Count(loan.remaining));
  }
  const auto others = std::remove_if(lane->again_.begin(), lane->again_.end(), [&](const Loan& l) {
    file->out -= l.file == file ? 1 : 0;
    return l.file == file;
  });
  lane->again_.erase(others, lane->again_.end());
  const uint64_t documents = file->documents - lent;
  lane->account_.Drop(reason, documents);
  file->documents = lent;
  file->gone = reason;
  file->handle.reset();
  const SpoolDirEntry entry{file->name, false, file->size, file->newest};
  Forget(lane, file);
  if (fate == Fate::kForeign || fate == Fate::kDamaged) {
    PutAside(entry, fate, "the rest of it is not sent");
  }
  log_->Warn(SpoolDropReasonName(reason), "documents on disk are given up",
             {{"key", lane->backend()}, {"documents", documents}, {"file", entry.name}});
  return absl::OkStatus();
}

// Removes the first `count` of `files`.
absl::Status Spool::RemoveAll(std::vector<SpoolDirEntry>* files, size_t count) {
  for (; count > 0; --count) {
    const SpoolDirEntry& entry = files->front();
    absl::Status removed = home_->dir()->Remove(entry.name);
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
    names_dirty_ = true;
    bytes_ -= entry.bytes;
    files->erase(files->begin());
  }
  return absl::OkStatus();
}

absl::Status Spool::MakeRoom(uint64_t bytes, SystemTime now) {
  while (bytes_ + bytes > options_.bytes_max) {
    if (!doomed_.empty()) {
      RETURN_IF_ERROR(RemoveAll(&doomed_, 1));
      continue;
    }
    if (!set_aside_.empty()) {
      std::iter_swap(set_aside_.begin(),
                     std::min_element(set_aside_.begin(), set_aside_.end(),
                                      [](const SpoolDirEntry& a, const SpoolDirEntry& b) {
                                        return a.modified < b.modified;
                                      }));
      log_->Warn("spool_set_aside_removed", "the spool is full: a file that was set aside went",
                 {{"file", set_aside_.front().name}});
      RETURN_IF_ERROR(RemoveAll(&set_aside_, 1));
      continue;
    }
    const auto most =
        std::max_element(lanes_.begin(), lanes_.end(), [](const auto& a, const auto& b) {
          return a->account_.bytes.value() < b->account_.bytes.value();
        });
    if (most == lanes_.end() || (*most)->files_.empty()) {
      if (untaken_.empty()) break;
      return absl::ResourceExhaustedError("files that cannot be read now take the room");
    }
    SpoolLane* const lane = most->get();
    RETURN_IF_ERROR(
        DropFile(lane, lane->files_.front(), SpoolDropReason::kFull, Fate::kRemoved, now));
    UpdateWaiting(lane);
  }
  return absl::OkStatus();
}

void Spool::Expire(SystemTime now) {
  const auto old = [&](SystemTime time) { return time < now && now - time > options_.age_max; };
  for (const auto& lane : lanes_) {
    // The rest of the file may be younger than its header.
    for (size_t i = 0; i < lane->files_.size();) {
      const FileRef file = lane->files_[i];
      const bool expired =
          old(file->newest) && Survey(lane.get(), file.get(), now).ok() && old(file->newest) &&
          DropFile(lane.get(), file, SpoolDropReason::kExpired, Fate::kRemoved, now).ok();
      if (!expired) ++i;
    }
    // So that a document outlives the limit by an eighth of it at most.
    if (lane->current_ != nullptr &&
        Elapsed(now, lane->current_->header.created, options_.age_max / 8)) {
      Seal(lane.get());
    }
    UpdateWaiting(lane.get());
  }
  const auto fresh = std::stable_partition(set_aside_.begin(), set_aside_.end(),
                                           [&](const auto& e) { return old(e.modified); });
  RemoveAll(&set_aside_, static_cast<size_t>(fresh - set_aside_.begin())).IgnoreError();
}

void Spool::LoseAll(SystemTime now) {
  for (const auto& lane : lanes_) {
    while (!lane->files_.empty()) {
      DropFile(lane.get(), lane->files_.front(), SpoolDropReason::kDamaged, Fate::kGone, now)
          .IgnoreError();
    }
    UpdateWaiting(lane.get());
  }
  untaken_.clear();
  set_aside_.clear();
  doomed_.clear();
  bytes_ = 0;
  home_.reset();
  tried_ = {};  // another is made at once
  off_ = fmt::format("{}: the directory was removed or replaced", options_.path);
  log_->Error("spool_off", "the spool's directory was removed or replaced under our hands",
              {{"key", options_.path}});
}

void Spool::Housekeep(SystemTime now) {
  bool sync = false;
  {
    MutexLock lock(&mutex_);
    if (home_ != nullptr && !home_->StillThere()) LoseAll(now);
    if (Elapsed(now, tried_, kRetry)) home_ == nullptr ? TryStart(now) : AdoptSiblings(now);
    if (home_ == nullptr) return;
    TakeAgain(now);
    RemoveAll(&doomed_, doomed_.size()).IgnoreError();
    int surveys = 0;
    for (const auto& lane : lanes_) {
      const std::deque<FileRef> files = lane->files_;
      for (const FileRef& file : files) {
        if (file->surveyed || surveys == kSurveysPerHousekeep) continue;
        ++surveys;
        // What fails here, Next tries again, tells and gives up.
        if (Survey(lane.get(), file.get(), now).ok()) FinishIfDone(lane.get(), file);
      }
    }
    Expire(now);
    MakeRoom(0, now).IgnoreError();
    sync = options_.fsync != Fsync::kNever && Elapsed(now, synced_, options_.fsync_interval);
    if (sync) synced_ = now;
  }
  if (sync) SyncDirty();
}

void Spool::SyncDirty() {
  std::vector<std::shared_ptr<SpoolFile>> files;
  bool names = false;
  {
    MutexLock lock(&mutex_);
    if (home_ == nullptr) return;
    names = std::exchange(names_dirty_, false);
    for (const auto& lane : lanes_) {
      for (const FileRef& file : lane->files_) {
        if (!std::exchange(file->dirty, false)) continue;
        files.push_back(file->handle);
        if (file != lane->current_ && file->out == 0) file->handle.reset();
      }
    }
    // Under the lock: the directory's object may go with Housekeep. It is one write of the journal.
    if (names) home_->dir()->Sync().IgnoreError();
  }
  for (const std::shared_ptr<SpoolFile>& file : files) {
    if (const absl::Status status = file->Sync(); !status.ok()) {
      log_->Warn("spool_sync_failed", "the device did not take what the spool holds",
                 {{"key", options_.path}, {"error", Text(status)}});
    }
  }
}

Spool::State Spool::state() const {
  MutexLock lock(&mutex_);
  State state;
  state.on = home_ != nullptr && refusing_.empty();
  state.text = home_ == nullptr     ? off_
               : !refusing_.empty() ? "memory only: " + refusing_
                                    : home_->dir()->path();
  state.bytes = bytes_;
  for (const auto& lane : lanes_) {
    state.files += lane->files_.size();
    state.unread += static_cast<uint64_t>(std::count_if(
        lane->files_.begin(), lane->files_.end(), [](const auto& f) { return !f->surveyed; }));
  }
  state.files += untaken_.size();
  state.unread += untaken_.size();
  state.foreign = foreign_files_;
  state.damaged = damaged_files_;
  for (const SpoolDirEntry& entry : set_aside_) state.set_aside += entry.bytes;
  return state;
}

}  // namespace mobula
