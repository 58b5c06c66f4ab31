// A disk in memory that fails on demand and crashes at any operation: for tests, simulation and fuzzing.
//
// Room:      test.
// Lifecycle: outlives what works on it. After Crash every call fails and changes nothing, so that the crashed
//            program's objects can be destroyed; Restart makes the disk usable again, as the next process finds it.
//            Several programs at once, each killed alone: one Process each.
// Threads:   any; one lock.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/spool/spool_disk.h"

namespace mobula {

class FakeSpoolDisk final : public SpoolDisk {
  struct Life {
    bool killed = false;
    uint64_t changes = 0;
    uint64_t kill_at = 0;  // 0: never
  };
  using LifeRef = std::shared_ptr<Life>;

 public:
  // What a call is, for Faults and the hook. Reads change nothing; all others are points to crash at.
  enum class Operation : uint8_t {
    kRead,
    kWrite,
    kTruncate,
    kSync,
    kCreate,
    kOpen,
    kRename,
    kRemove,
    kSyncDir,
    kMakeDir,
    kRemoveDir,
    kList,
    kLock
  };
  enum class After : uint8_t {
    kKill,      // the kernel keeps all that was written
    kPowerCut,  // only what was synced is there
    kTorn,      // a power cut after which new names, sizes and some of the unsynced bytes are there
  };

  // One program's way to the disk. Destroy its objects soon after Kill: its locks go with them.
  class Process final : public SpoolDisk {
   public:
    explicit Process(FakeSpoolDisk* disk) : disk_(disk) {}
    absl::StatusOr<std::unique_ptr<SpoolDir>> OpenRoot(const std::string& path,
                                                       SpoolAccess access) override {
      return disk_->OpenRootAs(path, access, life_);
    }
    void Kill() {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      life_->killed = true;
    }
    // As CrashAt, for this program alone.
    void KillAt(uint64_t change) {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      life_->kill_at = life_->changes + change;
    }
    [[nodiscard]] bool killed() const { return life_->killed; }

   private:
    FakeSpoolDisk* const disk_;
    const std::shared_ptr<Life> life_ = std::make_shared<Life>();
  };

  // --- faults

  // Bytes of all files together; a write beyond it stops short.
  uint64_t capacity = UINT64_MAX;
  // Every change answers FailedPrecondition.
  bool read_only = false;
  // Asked before each call, with the path; what is not OK is the answer. May move a clock: a slow disk. May
  // look at files, as at one that is about to be removed.
  std::function<absl::Status(Operation, const std::string&)> fault;
  // The number of the change that crashes, counted from now; a write does half its work. 0: none.
  void CrashAt(uint64_t change) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    crash_at_ = change == 0 ? 0 : changes_ + change;
  }
  void Crash() {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    crashed_ = true;
  }
  [[nodiscard]] bool crashed() const { return crashed_; }
  // Changes made so far.
  [[nodiscard]] uint64_t changes() const { return changes_; }

  void Restart(After after, uint64_t seed = 1) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    crashed_ = false;
    crash_at_ = 0;
    locks_.clear();
    ++epoch_;
    if (after == After::kKill) return;
    if (after == After::kPowerCut) {
      nodes_ = durable_;
    } else {
      // Names made were kept; those removed or renamed may or may not be back.
      for (const auto& [path, node] : durable_) {
        if (nodes_.count(path) == 0 && !Named(node) && (seed = Next(seed)) % 2 == 0) {
          nodes_[path] = node;
        }
      }
    }
    // Nothing is in a directory that is not there.
    std::erase_if(nodes_, [this](const auto& entry) {
      const std::string folder = entry.first.substr(0, entry.first.rfind('/'));
      return !entry.second->directory && nodes_.count(folder) == 0;
    });
    for (auto& [path, node] : nodes_) {
      if (node->directory) continue;
      if (after == After::kPowerCut) {
        node->bytes = node->synced;
      } else {
        Tear(node.get(), &seed);
      }
      node->synced = node->bytes;
    }
    durable_ = nodes_;
  }

  // --- looking and meddling, without faults

  [[nodiscard]] std::vector<std::string> Paths() const {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    std::vector<std::string> paths;
    for (const auto& [path, node] : nodes_) {
      if (!node->directory) paths.push_back(path);
    }
    return paths;
  }
  // Of a file, to be read or changed; null when there is none.
  [[nodiscard]] std::string* Bytes(const std::string& path) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    const auto found = nodes_.find(path);
    return found == nodes_.end() || found->second->directory ? nullptr : &found->second->bytes;
  }
  // Makes a file and the directories above it, synced.
  void Put(const std::string& path, std::string_view bytes) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    for (size_t slash = path.find('/', 1); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const std::string folder = path.substr(0, slash);
      if (nodes_.count(folder) == 0) durable_[folder] = nodes_[folder] = MakeNode(true);
    }
    const NodeRef node = MakeNode(false);
    node->bytes = node->synced = bytes;
    durable_[path] = nodes_[path] = node;
  }
  // Removes a directory and all in it, as an operator would.
  void Delete(const std::string& path) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    for (auto* names : {&nodes_, &durable_}) {
      for (auto it = names->begin(); it != names->end();) {
        const bool below = it->first == path || it->first.starts_with(path + "/");
        it = below ? names->erase(it) : std::next(it);
      }
    }
  }

  absl::StatusOr<std::unique_ptr<SpoolDir>> OpenRoot(const std::string& path,
                                                     SpoolAccess access) override {
    return OpenRootAs(path, access, std::make_shared<Life>());
  }

 private:
  struct Node {
    bool directory = false;
    std::string bytes;
    std::string synced;
  };
  using NodeRef = std::shared_ptr<Node>;

  static NodeRef MakeNode(bool directory) {
    auto node = std::make_shared<Node>();
    node->directory = directory;
    return node;
  }

  class File final : public SpoolFile {
   public:
    File(FakeSpoolDisk* disk, std::string path, NodeRef node, LifeRef life)
        : disk_(disk),
          path_(std::move(path)),
          node_(std::move(node)),
          life_(std::move(life)),
          epoch_(disk->epoch_) {}

    absl::StatusOr<size_t> Read(uint64_t offset, char* to, size_t size) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status status = Check(Operation::kRead); !status.ok()) return status;
      if (offset >= node_->bytes.size()) return size_t{0};
      return node_->bytes.copy(to, size, offset);
    }

    absl::Status Write(uint64_t offset, std::string_view bytes) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      absl::Status status = Check(Operation::kWrite);
      size_t taken = bytes.size();
      if (!status.ok()) {
        // What fails for a fault of the device or a crash has done half its work.
        taken = disk_->half_done_ ? bytes.size() / 2 : 0;
      } else if (const uint64_t end = offset + bytes.size(); end > node_->bytes.size()) {
        const uint64_t used = disk_->Used() + end - node_->bytes.size();
        if (used > disk_->capacity) {
          taken -= std::min<uint64_t>(taken, used - disk_->capacity);
          status = absl::ResourceExhaustedError(path_ + ": no space");
        }
      }
      if (taken > 0) {
        if (node_->bytes.size() < offset + taken) node_->bytes.resize(offset + taken);
        node_->bytes.replace(offset, taken, bytes.substr(0, taken));
      }
      return status;
    }

    absl::Status Truncate(uint64_t size) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status status = Check(Operation::kTruncate); !status.ok()) return status;
      node_->bytes.resize(size);
      return absl::OkStatus();
    }

    absl::Status Sync() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status status = Check(Operation::kSync); !status.ok()) return status;
      node_->synced = node_->bytes;
      return absl::OkStatus();
    }

   private:
    absl::Status Check(Operation operation) {
      if (epoch_ != disk_->epoch_) return absl::UnavailableError("of a crashed process");
      return operation == Operation::kRead ? disk_->Look(operation, path_, *life_)
                                           : disk_->Change(operation, path_, life_.get());
    }

    FakeSpoolDisk* const disk_;
    const std::string path_;
    const NodeRef node_;
    const LifeRef life_;
    const uint64_t epoch_;
  };

  class Dir final : public SpoolDir {
   public:
    Dir(FakeSpoolDisk* disk, std::string path, LifeRef life)
        : disk_(disk), path_(std::move(path)), life_(std::move(life)), epoch_(disk->epoch_) {}
    ~Dir() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (locked_ && epoch_ == disk_->epoch_) std::erase(disk_->locks_, path_);
    }

    [[nodiscard]] const std::string& path() const override { return path_; }

    absl::StatusOr<std::vector<SpoolDirEntry>> List() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status status = Check(Operation::kList, path_); !status.ok()) return status;
      std::vector<SpoolDirEntry> entries;
      for (const auto& [path, node] : disk_->nodes_) {
        if (!path.starts_with(path_ + "/")) continue;
        const std::string name = path.substr(path_.size() + 1);
        if (name.find('/') != std::string::npos) continue;
        entries.push_back({name, node->directory, node->bytes.size(), disk_->modified});
      }
      return entries;
    }

    absl::StatusOr<std::unique_ptr<SpoolFile>> Create(const std::string& name) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kCreate, At(name)); !s.ok()) return s;
      if (disk_->nodes_.count(path_) == 0) return absl::NotFoundError(path_);
      if (disk_->nodes_.count(At(name)) != 0) return absl::AlreadyExistsError(At(name));
      const NodeRef node = MakeNode(false);
      disk_->nodes_[At(name)] = node;
      return std::make_unique<File>(disk_, At(name), node, life_);
    }

    absl::StatusOr<std::unique_ptr<SpoolFile>> Open(const std::string& name, SpoolAccess) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kOpen, At(name)); !s.ok()) return s;
      const auto found = disk_->nodes_.find(At(name));
      if (found == disk_->nodes_.end()) return absl::NotFoundError(At(name));
      return std::make_unique<File>(disk_, At(name), found->second, life_);
    }

    absl::Status Rename(const std::string& name, SpoolDir* to,
                        const std::string& new_name) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kRename, At(name)); !s.ok()) return s;
      const std::string target = to->path() + "/" + new_name;
      const auto found = disk_->nodes_.find(At(name));
      if (found == disk_->nodes_.end()) return absl::NotFoundError(At(name));
      if (disk_->nodes_.count(target) != 0) return absl::AlreadyExistsError(target);
      const NodeRef node = found->second;
      disk_->nodes_.erase(found);
      disk_->nodes_[target] = node;
      return absl::OkStatus();
    }

    absl::Status Remove(const std::string& name) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kRemove, At(name)); !s.ok()) return s;
      return disk_->nodes_.erase(At(name)) > 0 ? absl::OkStatus() : absl::NotFoundError(At(name));
    }

    absl::Status Sync() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kSyncDir, path_); !s.ok()) return s;
      disk_->SyncNames(path_);
      return absl::OkStatus();
    }

    absl::Status MakeDir(const std::string& name) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kMakeDir, At(name)); !s.ok()) return s;
      if (disk_->nodes_.count(At(name)) != 0) return absl::AlreadyExistsError(At(name));
      disk_->nodes_[At(name)] = MakeNode(true);
      return absl::OkStatus();
    }

    absl::StatusOr<std::unique_ptr<SpoolDir>> OpenDir(const std::string& name,
                                                      SpoolAccess) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kOpen, At(name)); !s.ok()) return s;
      if (disk_->nodes_.count(At(name)) == 0) return absl::NotFoundError(At(name));
      return std::make_unique<Dir>(disk_, At(name), life_);
    }

    absl::Status RemoveDir(const std::string& name) override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kRemoveDir, At(name)); !s.ok()) return s;
      const auto next = disk_->nodes_.upper_bound(At(name) + "/");
      if (next != disk_->nodes_.end() && next->first.starts_with(At(name) + "/")) {
        return absl::FailedPreconditionError(At(name) + ": not empty");
      }
      return disk_->nodes_.erase(At(name)) > 0 ? absl::OkStatus() : absl::NotFoundError(At(name));
    }

    absl::StatusOr<bool> TryLock() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      if (absl::Status s = Check(Operation::kLock, path_); !s.ok()) return s;
      if (disk_->nodes_.count(path_) == 0) return absl::NotFoundError(path_);
      if (Held()) return false;
      if (disk_->nodes_.count(At(kSpoolLockName)) == 0) {
        disk_->nodes_[At(kSpoolLockName)] = MakeNode(false);
      }
      disk_->locks_.push_back(path_);
      locked_ = true;
      return true;
    }

    [[nodiscard]] bool Locked() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      return Held();
    }

    [[nodiscard]] bool StillThere() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      return disk_->crashed_ || life_->killed || disk_->nodes_.count(path_) != 0;
    }

    absl::StatusOr<uint64_t> FreeBytes() override {
      const std::lock_guard<std::recursive_mutex> lock(disk_->mutex_);
      return disk_->capacity - std::min(disk_->capacity, disk_->Used());
    }

   private:
    [[nodiscard]] std::string At(const std::string& name) const { return path_ + "/" + name; }
    [[nodiscard]] bool Held() const {
      return std::find(disk_->locks_.begin(), disk_->locks_.end(), path_) != disk_->locks_.end();
    }
    absl::Status Check(Operation operation, const std::string& path) {
      if (epoch_ != disk_->epoch_) return absl::UnavailableError("of a crashed process");
      return operation == Operation::kOpen || operation == Operation::kList
                 ? disk_->Look(operation, path, *life_)
                 : disk_->Change(operation, path, life_.get());
    }

    FakeSpoolDisk* const disk_;
    const std::string path_;
    const LifeRef life_;
    const uint64_t epoch_;
    bool locked_ = false;
  };

  absl::StatusOr<std::unique_ptr<SpoolDir>> OpenRootAs(const std::string& path, SpoolAccess access,
                                                       LifeRef life) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (nodes_.count(path) == 0) {
      if (access == SpoolAccess::kRead) return absl::NotFoundError(path);
      const absl::Status status = Change(Operation::kMakeDir, path, life.get());
      if (!status.ok()) return status;
      durable_[path] = nodes_[path] = MakeNode(true);
    } else if (absl::Status status = Look(Operation::kOpen, path, *life); !status.ok()) {
      return status;
    }
    return std::make_unique<Dir>(this, path, std::move(life));
  }

  absl::Status Look(Operation operation, const std::string& path, const Life& life) {
    if (life.killed) return absl::UnavailableError("killed");
    if (crashed_) return absl::UnavailableError("crashed");
    return fault ? fault(operation, path) : absl::OkStatus();
  }

  absl::Status Change(Operation operation, const std::string& path, Life* life) {
    half_done_ = false;
    if (life->killed) return absl::UnavailableError("killed");
    if (crashed_) return absl::UnavailableError("crashed");
    ++changes_;
    if (++life->changes == life->kill_at) {
      life->killed = half_done_ = true;
      return absl::UnavailableError("killed");
    }
    if (crash_at_ != 0 && changes_ >= crash_at_) {
      crashed_ = half_done_ = true;
      return absl::UnavailableError("crashed");
    }
    if (read_only) return absl::FailedPreconditionError(path + ": read-only file system");
    const absl::Status status = fault ? fault(operation, path) : absl::OkStatus();
    half_done_ = !status.ok();
    return status;
  }

  [[nodiscard]] uint64_t Used() const {
    uint64_t used = 0;
    for (const auto& [path, node] : nodes_) used += node->bytes.size();
    return used;
  }

  [[nodiscard]] bool Named(const NodeRef& node) const {
    return std::any_of(nodes_.begin(), nodes_.end(),
                       [&](const auto& entry) { return entry.second == node; });
  }

  // A rename is one step: it is on the device when either directory is.
  void SyncNames(const std::string& folder) {
    const auto in_folder = [&](const std::string& path) {
      return path.starts_with(folder + "/") &&
             path.find('/', folder.size() + 1) == std::string::npos;
    };
    for (auto it = durable_.begin(); it != durable_.end();) {
      const auto now = std::find_if(nodes_.begin(), nodes_.end(),
                                    [&](const auto& e) { return e.second == it->second; });
      const bool moved = now != nodes_.end() && now->first != it->first &&
                         (in_folder(now->first) || in_folder(it->first));
      const bool removed = now == nodes_.end() && in_folder(it->first);
      if (moved) durable_[now->first] = now->second;
      it = moved || removed ? durable_.erase(it) : std::next(it);
    }
    for (const auto& [path, node] : nodes_) {
      if (in_folder(path)) durable_[path] = node;
    }
  }

  static uint64_t Next(uint64_t seed) { return seed * 6364136223846793005 + 1442695040888963407; }

  // Of what was written and not synced, each 512 bytes are there or not; the size is the new one.
  static void Tear(Node* node, uint64_t* seed) {
    constexpr size_t kSector = 512;
    for (size_t at = 0; at < node->bytes.size(); at += kSector) {
      *seed = Next(*seed);
      if ((*seed >> 33) % 2 == 0) continue;
      for (size_t i = at; i < std::min(at + kSector, node->bytes.size()); ++i) {
        node->bytes[i] = i < node->synced.size() ? node->synced[i] : '\0';
      }
    }
  }

 public:
  SystemTime modified{};  // of every file that is listed

 private:
  mutable std::recursive_mutex mutex_;
  std::map<std::string, NodeRef> nodes_;
  std::map<std::string, NodeRef> durable_;  // names that were synced
  std::vector<std::string> locks_;
  uint64_t epoch_ = 0;
  uint64_t changes_ = 0;
  uint64_t crash_at_ = 0;
  bool crashed_ = false;
  bool half_done_ = false;
};

}  // namespace mobula
