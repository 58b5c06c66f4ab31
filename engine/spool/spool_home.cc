// Tested by tests/unit/engine/spool/spool_home_test.cc.
#include "engine/spool/spool_home.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr std::string_view kPrefix = "instance-";
constexpr int kMakeAttempts = 8;

}  // namespace

bool SpoolHome::IsInstanceName(const std::string& name) {
  return name.size() == kPrefix.size() + 16 && name.starts_with(kPrefix) &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string::npos;
}

absl::StatusOr<std::unique_ptr<SpoolHome>> SpoolHome::Open(const std::string& path, SpoolDisk* disk,
                                                           std::mt19937_64* random, Log* log) {
  ASSIGN_OR_RETURN(std::unique_ptr<SpoolDir> root, disk->OpenRoot(path, SpoolAccess::kWrite));
  auto home = std::unique_ptr<SpoolHome>(new SpoolHome(std::move(root), log));
  ASSIGN_OR_RETURN(std::vector<SpoolDirEntry> entries, home->root_->List());
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  // One that is there needs no room on a full disk.
  for (const SpoolDirEntry& entry : entries) {
    if (!entry.directory || !IsInstanceName(entry.name)) continue;
    const absl::StatusOr<bool> taken = home->TryTake(entry.name);
    if (taken.ok() && *taken) return home;
  }
  for (int attempt = 0; attempt < kMakeAttempts; ++attempt) {
    const std::string name = fmt::format("{}{:016x}", kPrefix, (*random)());
    const absl::Status made = home->root_->MakeDir(name);
    if (absl::IsAlreadyExists(made)) continue;
    RETURN_IF_ERROR(made);
    // Between the two calls somebody may take it for one that was left, and remove it.
    const absl::StatusOr<bool> taken = home->TryTake(name);
    if (!taken.ok() && !absl::IsNotFound(taken.status())) {
      home->root_->RemoveDir(name).IgnoreError();  // there will be another try, with another name
      return taken.status();
    }
    if (!taken.ok() || !*taken) continue;
    RETURN_IF_ERROR(home->root_->Sync());
    return home;
  }
  return absl::UnavailableError(fmt::format("{}: somebody keeps taking our directory", path));
}

absl::StatusOr<bool> SpoolHome::TryTake(const std::string& name) {
  ASSIGN_OR_RETURN(std::unique_ptr<SpoolDir> dir, root_->OpenDir(name, SpoolAccess::kWrite));
  ASSIGN_OR_RETURN(const bool locked, dir->TryLock());
  if (!locked) return false;
  name_ = name;
  dir_ = std::move(dir);
  return true;
}

SpoolHome::~SpoolHome() {
  if (dir_ == nullptr) return;
  const absl::StatusOr<std::vector<SpoolDirEntry>> entries = dir_->List();
  if (!entries.ok() || std::any_of(entries->begin(), entries->end(),
                                   [](const auto& e) { return e.name != kSpoolLockName; })) {
    return;
  }
  dir_->Remove(kSpoolLockName).IgnoreError();
  root_->RemoveDir(name_).IgnoreError();
}

absl::StatusOr<std::vector<SpoolDirEntry>> SpoolHome::AdoptSiblings(bool sync) {
  ASSIGN_OR_RETURN(const std::vector<SpoolDirEntry> entries, root_->List());
  std::vector<SpoolDirEntry> came;
  for (const SpoolDirEntry& entry : entries) {
    if (entry.directory && IsInstanceName(entry.name) && entry.name != name_) {
      AdoptFrom(entry.name, sync, &came);
    }
  }
  return came;
}

void SpoolHome::AdoptFrom(const std::string& name, bool sync, std::vector<SpoolDirEntry>* came) {
  const auto tell = [&](const absl::Status& status) {
    log_->Warn("spool_not_adopted", "cannot take over what another instance left",
               {{"key", name}, {"error", std::string(status.message())}});
  };
  absl::StatusOr<std::unique_ptr<SpoolDir>> sibling = root_->OpenDir(name, SpoolAccess::kWrite);
  if (!sibling.ok()) return absl::IsNotFound(sibling.status()) ? void() : tell(sibling.status());
  const absl::StatusOr<bool> locked = (*sibling)->TryLock();
  if (!locked.ok()) return absl::IsNotFound(locked.status()) ? void() : tell(locked.status());
  if (!*locked) return;
  absl::StatusOr<std::vector<SpoolDirEntry>> entries = (*sibling)->List();
  if (!entries.ok()) return tell(entries.status());
  bool all = true;
  size_t files = 0;
  for (SpoolDirEntry& entry : *entries) {
    if (entry.name == kSpoolLockName) continue;
    const absl::Status moved = entry.directory
                                   ? absl::InvalidArgumentError(entry.name + ": a directory")
                                   : (*sibling)->Rename(entry.name, dir_.get(), entry.name);
    if (moved.ok()) {
      ++files;
      came->push_back(std::move(entry));
    } else {
      all = false;
      tell(moved);
    }
  }
  if (sync && files > 0) {
    // First where they are now: in between a file may be seen in both places, but never in none.
    const absl::Status here = dir_->Sync();
    const absl::Status there = (*sibling)->Sync();
    if (!here.ok() || !there.ok()) tell(here.ok() ? there : here);
  }
  if (files > 0) {
    log_->Info("spool_adopted", "took over the spool of an instance that is gone",
               {{"instance", name}, {"files", uint64_t{files}}});
  }
  if (!all) return;
  (*sibling)->Remove(kSpoolLockName).IgnoreError();
  root_->RemoveDir(name).IgnoreError();
}

}  // namespace mobula
