// Files relative to an open directory, so that what becomes of its name never leads elsewhere.
// Tested by tests/unit/engine/spool/posix_spool_disk_test.cc.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"
#include "engine/spool/spool_disk.h"

namespace mobula {
namespace {

// Several, because between open and lock another process may remove the lock file.
constexpr int kLockAttempts = 8;

absl::Status Error(int error, const std::string& path) { return absl::ErrnoToStatus(error, path); }

class PosixFile final : public SpoolFile {
 public:
  PosixFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::StatusOr<size_t> Read(uint64_t offset, char* to, size_t size) override {
    size_t done = 0;
    while (done < size) {
      const ssize_t n =
          ::pread(fd_.get(), to + done, size - done, static_cast<off_t>(offset + done));
      if (n == 0) break;
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (errno != EINTR) {
        return Error(errno, path_);
      }
    }
    return done;
  }

  absl::Status Write(uint64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n > 0) {
        offset += static_cast<uint64_t>(n);
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (n == 0 || errno != EINTR) {
        return Error(n == 0 ? ENOSPC : errno, path_);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t size) override {
    return ::ftruncate(fd_.get(), static_cast<off_t>(size)) == 0 ? absl::OkStatus()
                                                                 : Error(errno, path_);
  }

  absl::Status Sync() override {
    while (::fdatasync(fd_.get()) != 0) {
      if (errno != EINTR) return Error(errno, path_);
    }
    return absl::OkStatus();
  }

 private:
  const UniqueFd fd_;
  const std::string path_;
};

class PosixDir final : public SpoolDir {
 public:
  PosixDir(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  [[nodiscard]] const std::string& path() const override { return path_; }

  absl::StatusOr<std::vector<SpoolDirEntry>> List() override {
    // A descriptor of its own: readdir moves it, closedir closes it.
    UniqueFd fd(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Error(errno, path_);
    DIR* const dir = ::fdopendir(fd.get());
    if (dir == nullptr) return Error(errno, path_);
    static_cast<void>(fd.release());
    std::vector<SpoolDirEntry> entries;
    for (;;) {
      errno = 0;
      const dirent* const found = ::readdir(dir);
      if (found == nullptr) break;
      struct stat info {};
      if (::fstatat(fd_.get(), found->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (found->d_name[0] == '.' || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) continue;
      entries.push_back({found->d_name, S_ISDIR(info.st_mode), static_cast<uint64_t>(info.st_size),
                         std::chrono::system_clock::from_time_t(info.st_mtime)});
    }
    const int error = errno;
    ::closedir(dir);
    if (error != 0) return Error(error, path_);
    return entries;
  }

  absl::StatusOr<std::unique_ptr<SpoolFile>> Create(const std::string& name) override {
    return OpenFile(name, O_RDWR | O_CREAT | O_EXCL);
  }

  absl::StatusOr<std::unique_ptr<SpoolFile>> Open(const std::string& name,
                                                  SpoolAccess access) override {
    return OpenFile(name, access == SpoolAccess::kRead ? O_RDONLY : O_RDWR);
  }

  absl::Status Rename(const std::string& name, SpoolDir* to, const std::string& new_name) override {
    const int target = static_cast<PosixDir*>(to)->fd_.get();
    // Not every file system knows RENAME_NOREPLACE; both directories are locked, so that looking first does.
    struct stat info {};
    if (::fstatat(target, new_name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
      return Error(EEXIST, Path(new_name));
    }
    return ::renameat(fd_.get(), name.c_str(), target, new_name.c_str()) == 0
               ? absl::OkStatus()
               : Error(errno, Path(name));
  }

  absl::Status Remove(const std::string& name) override {
    return ::unlinkat(fd_.get(), name.c_str(), 0) == 0 ? absl::OkStatus()
                                                       : Error(errno, Path(name));
  }

  absl::Status Sync() override {
    return ::fsync(fd_.get()) == 0 ? absl::OkStatus() : Error(errno, path_);
  }

  absl::Status MakeDir(const std::string& name) override {
    return ::mkdirat(fd_.get(), name.c_str(), 0700) == 0 ? absl::OkStatus()
                                                         : Error(errno, Path(name));
  }

  absl::StatusOr<std::unique_ptr<SpoolDir>> OpenDir(const std::string& name,
                                                    SpoolAccess access) override {
    UniqueFd fd(::openat(fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return Error(errno, Path(name));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return Error(errno, Path(name));
    // What anybody could have put there is not sent under our name. (A group may write: fsGroup of Kubernetes.)
    const bool ours =
        info.st_uid == ::geteuid() || (::geteuid() == 0 && access == SpoolAccess::kRead);
    if (!ours || (info.st_mode & S_IWOTH) != 0) {
      return absl::PermissionDeniedError(
          fmt::format("{}: belongs to somebody else or may be written by anybody", Path(name)));
    }
    return std::make_unique<PosixDir>(std::move(fd), Path(name));
  }

  absl::Status RemoveDir(const std::string& name) override {
    return ::unlinkat(fd_.get(), name.c_str(), AT_REMOVEDIR) == 0 ? absl::OkStatus()
                                                                  : Error(errno, Path(name));
  }

  absl::StatusOr<bool> TryLock() override {
    for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
      UniqueFd fd(::openat(fd_.get(), kSpoolLockName,
                           O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                           0600));
      if (!fd.valid()) return Error(errno, Path(kSpoolLockName));
      if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno != EINTR) return Error(errno, Path(kSpoolLockName));
        continue;
      }
      struct stat open {};
      struct stat named {};
      if (::fstat(fd.get(), &open) == 0 &&
          ::fstatat(fd_.get(), kSpoolLockName, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
          open.st_ino == named.st_ino) {
        lock_ = std::move(fd);
        return true;
      }
    }
    return absl::UnavailableError(
        fmt::format("{}: somebody keeps replacing it", Path(kSpoolLockName)));
  }

  [[nodiscard]] bool Locked() override {
    const UniqueFd fd(
        ::openat(fd_.get(), kSpoolLockName, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    return fd.valid() && ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  }

  [[nodiscard]] bool StillThere() override {
    struct stat open {};
    struct stat named {};
    if (::fstat(fd_.get(), &open) != 0 || open.st_nlink == 0) return false;
    // What the device cannot answer now says nothing.
    if (::stat(path_.c_str(), &named) != 0) return errno != ENOENT && errno != ENOTDIR;
    return open.st_dev == named.st_dev && open.st_ino == named.st_ino;
  }

  absl::StatusOr<uint64_t> FreeBytes() override {
    struct statvfs info {};
    if (::fstatvfs(fd_.get(), &info) != 0) return Error(errno, path_);
    return uint64_t{info.f_bavail} * info.f_frsize;
  }

 private:
  [[nodiscard]] std::string Path(const std::string& name) const { return path_ + "/" + name; }

  absl::StatusOr<std::unique_ptr<SpoolFile>> OpenFile(const std::string& name, int flags) {
    // O_NONBLOCK, so that a named pipe cannot hang us; it means nothing for a file.
    UniqueFd fd(::openat(fd_.get(), name.c_str(),
                         flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600));
    if (!fd.valid()) return Error(errno, Path(name));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return Error(errno, Path(name));
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(fmt::format("{}: not a regular file", Path(name)));
    }
    return std::make_unique<PosixFile>(std::move(fd), Path(name));
  }

  const UniqueFd fd_;
  const std::string path_;
  UniqueFd lock_;
};

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1); !path.empty(); slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (::mkdir(folder.c_str(), slash == std::string::npos ? 0700 : 0755) != 0 && errno != EEXIST) {
      const int error = errno;
      struct stat info {};
      // A folder that is there may answer EROFS or EACCES to mkdir.
      if (::stat(folder.c_str(), &info) != 0) return Error(error, folder);
    }
    if (slash == std::string::npos) break;
  }
  return absl::OkStatus();
}

class PosixDisk final : public SpoolDisk {
 public:
  absl::StatusOr<std::unique_ptr<SpoolDir>> OpenRoot(const std::string& path,
                                                     SpoolAccess access) override {
    if (access == SpoolAccess::kWrite) RETURN_IF_ERROR(MakeFolders(path));
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Error(errno, path);
    return std::make_unique<PosixDir>(std::move(fd), path);
  }
};

}  // namespace

SpoolDisk* PosixSpoolDisk() {
  static PosixDisk disk;
  return &disk;
}

}  // namespace mobula
