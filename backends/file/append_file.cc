// Opening, locking, whole appends, repair and rotation.
// Tested by tests/unit/backends/file/append_file_test.cc.
#include "backends/file/append_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

// Several, because between open and lock another process may rotate the file away.
constexpr int kOpenAttempts = 8;

// The last of them has `mode`.
absl::Status MakeFoldersAbove(const std::string& path, mode_t mode) {
  const size_t last = path.rfind('/');
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (mkdir(folder.c_str(), slash == last ? mode : 0750) != 0 && errno != EEXIST) {
      const int error = errno;
      struct stat status {};
      // A folder that is there may answer EROFS or EACCES to mkdir.
      if (stat(folder.c_str(), &status) != 0) return FileError(error, folder);
    }
  }
  return absl::OkStatus();
}

// What others put there, or may look into, gets nothing that is for its owner alone.
absl::Status MakeSecret(int fd, const struct stat& status, const std::string& path) {
  if (status.st_uid != geteuid() || status.st_nlink > 1) {
    return absl::PermissionDeniedError(
        fmt::format("belongs to somebody else or has a second name: {}", path));
  }
  if ((status.st_mode & 077) != 0 && fchmod(fd, 0600) != 0) return FileError(errno, path);
  return absl::OkStatus();
}

bool SameFile(int fd, const std::string& path) {
  struct stat open {};
  struct stat named {};
  return fstat(fd, &open) == 0 && stat(path.c_str(), &named) == 0 && open.st_ino == named.st_ino &&
         open.st_dev == named.st_dev;
}

absl::Status SyncFd(int fd, const std::string& path) {
  while (fdatasync(fd) != 0) {
    if (errno != EINTR) return FileError(errno, path);
  }
  return absl::OkStatus();
}

// Without it, a new file's name may be gone after a power failure although its bytes are on the device.
absl::Status SyncFolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return FileError(errno, folder);
  return absl::OkStatus();
}

}  // namespace

absl::Status FileError(int error, std::string_view path) {
  std::string reason = std::strerror(error);
  if (!reason.empty() && reason[0] >= 'A' && reason[0] <= 'Z') {
    reason[0] = static_cast<char>(reason[0] - 'A' + 'a');
  }
  const std::string message = fmt::format("{}: {}", reason, path);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case ENXIO:
    case EINVAL:
      return absl::InvalidArgumentError(message);
    case EIO:
      return absl::DataLossError(message);
    default:
      return absl::UnavailableError(message);
  }
}

AppendFile::AppendFile(Options options, Log* log) : options_(std::move(options)), log_(log) {
  CHECK(log != nullptr);
  CHECK(options_.rotate_keep >= 1);
}

absl::Status AppendFile::Open() {
  if (fd_.valid()) return absl::OkStatus();
  ASSIGN_OR_RETURN(Opened opened, OpenPath());
  Use(std::move(opened));
  return absl::OkStatus();
}

absl::StatusOr<AppendFile::Opened> AppendFile::OpenPath() {
  RETURN_IF_ERROR(MakeFoldersAbove(options_.path, options_.secret ? 0700 : 0750));
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    Opened opened;
    // O_NONBLOCK, so that a named pipe cannot hang us; it means nothing for a file.
    opened.fd = UniqueFd(open(options_.path.c_str(),
                              O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                                  (options_.secret ? O_NOFOLLOW : 0),
                              options_.secret ? 0600 : 0640));
    if (!opened.fd.valid() && errno == ELOOP && options_.secret) {
      return absl::InvalidArgumentError(
          fmt::format("a symbolic link is not followed: {}", options_.path));
    }
    if (!opened.fd.valid()) return FileError(errno, options_.path);
    struct stat status {};
    if (fstat(opened.fd.get(), &status) != 0) return FileError(errno, options_.path);
    if (!S_ISREG(status.st_mode)) {
      return absl::InvalidArgumentError(
          fmt::format("not a regular file (\"-\" is standard output): {}", options_.path));
    }
    if (options_.secret) RETURN_IF_ERROR(MakeSecret(opened.fd.get(), status, options_.path));
    // A file system without locks (ENOLCK, EOPNOTSUPP) is used without.
    if (flock(opened.fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(
          fmt::format("another writer holds the file: {}", options_.path));
    }
    if (!SameFile(opened.fd.get(), options_.path)) continue;
    if (options_.sync && status.st_size == 0) RETURN_IF_ERROR(SyncFolderOf(options_.path));
    bool set_aside = false;
    RETURN_IF_ERROR(MendTail(&opened, &set_aside));
    if (!set_aside) return opened;
  }
  return absl::UnavailableError(fmt::format("somebody keeps replacing it: {}", options_.path));
}

absl::Status AppendFile::MendTail(Opened* opened, bool* set_aside) {
  const int fd = opened->fd.get();
  struct stat status {};
  if (fstat(fd, &status) != 0) return FileError(errno, options_.path);
  const uint64_t size = static_cast<uint64_t>(status.st_size);
  if (size == 0) return absl::OkStatus();
  if (!options_.whole_bytes) {
    char last = 0;
    if (pread(fd, &last, 1, status.st_size - 1) < 0) return FileError(errno, options_.path);
    opened->needs_newline = last != '\n';
    if (opened->needs_newline) {
      log_->Warn("file_tail_torn",
                 "the last line of the file has no end; the next record begins a new line",
                 {{"path", options_.path}, {"offset", size}});
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::optional<uint64_t> whole, options_.whole_bytes(fd));
  if (whole == size) return absl::OkStatus();
  if (whole.has_value() && size - *whole <= kTornBytesMax) {
    if (ftruncate(fd, static_cast<off_t>(*whole)) != 0) return FileError(errno, options_.path);
    log_->Warn("file_tail_torn",
               "an interrupted write left half a record at the end of the file: cut off",
               {{"path", options_.path}, {"offset", *whole}, {"bytes", size - *whole}});
    return absl::OkStatus();
  }
  const std::string aside =
      fmt::format("{}.damaged-{}", options_.path, static_cast<int64_t>(std::time(nullptr)));
  if (rename(options_.path.c_str(), aside.c_str()) != 0) return FileError(errno, options_.path);
  log_->Error("file_set_aside",
              whole.has_value()
                  ? "the file is damaged: renamed, and a new one begun"
                  : "the file is not of the configured format: renamed, and a new one begun",
              {{"path", options_.path}, {"renamed_to", aside}, {"offset", whole.value_or(0)}});
  *set_aside = true;
  return absl::OkStatus();
}

// Makes the file ready to take `bytes` more; answers its size.
absl::Status AppendFile::Prepare(size_t bytes, uint64_t* size) {
  RETURN_IF_ERROR(Open());
  struct stat status {};
  if (fstat(fd_.get(), &status) != 0) return FileError(errno, options_.path);
  if (status.st_nlink == 0) {  // deleted under our hands: what we write would be nowhere
    Close();
    RETURN_IF_ERROR(Open());
    if (fstat(fd_.get(), &status) != 0) return FileError(errno, options_.path);
  }
  if (torn_at_.has_value()) {
    if (static_cast<uint64_t>(status.st_size) > *torn_at_) {
      if (ftruncate(fd_.get(), static_cast<off_t>(*torn_at_)) != 0) {
        return FileError(errno, options_.path);
      }
      status.st_size = static_cast<off_t>(*torn_at_);
    }
    torn_at_.reset();
  }
  *size = static_cast<uint64_t>(status.st_size);
  if (options_.rotate_size == 0 || *size <= options_.header.size() ||
      *size + bytes <= options_.rotate_size) {
    return absl::OkStatus();
  }
  if (absl::Status rotated = Rotate(); !rotated.ok()) {
    log_->Error("file_rotation_failed", "cannot rotate the file",
                {{"key", options_.path}, {"error", std::string(rotated.message())}});
    // Too large a file is better than lost documents, as long as there is a file.
    return fd_.valid() ? absl::OkStatus() : rotated;
  }
  *size = 0;
  return absl::OkStatus();
}

absl::Status AppendFile::Append(std::string_view bytes) {
  uint64_t size = 0;
  RETURN_IF_ERROR(Prepare(bytes.size(), &size));
  absl::Status written;
  if (size == 0) {
    written = Write(options_.header);
  } else if (needs_newline_) {
    written = Write("\n");
  }
  if (written.ok()) written = Write(bytes);
  if (!written.ok()) {
    CutBack(size);
    return written;
  }
  needs_newline_ = false;
  return absl::OkStatus();
}

absl::Status AppendFile::AppendAndSync(std::string_view bytes) {
  RETURN_IF_ERROR(Append(bytes));
  absl::Status synced = Sync();
  if (synced.ok()) return synced;
  // The kernel forgets what it could not write after saying so once: these bytes must come again.
  struct stat status {};
  if (fstat(fd_.get(), &status) == 0 && static_cast<uint64_t>(status.st_size) >= bytes.size()) {
    CutBack(static_cast<uint64_t>(status.st_size) - bytes.size());
  }
  return synced;
}

absl::Status AppendFile::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_.get(), bytes.data(), bytes.size());
    if (n > 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
    } else if (n == 0 || errno != EINTR) {
      return FileError(n == 0 ? ENOSPC : errno, options_.path);
    }
  }
  return absl::OkStatus();
}

void AppendFile::CutBack(uint64_t size) {
  struct stat status {};
  if (fstat(fd_.get(), &status) == 0 && static_cast<uint64_t>(status.st_size) <= size) return;
  if (ftruncate(fd_.get(), static_cast<off_t>(size)) == 0) return;
  log_->Error("file_repair_failed", "cannot cut a half-written record off",
              {{"path", options_.path}, {"error", std::strerror(errno)}, {"offset", size}});
  if (options_.whole_bytes) {
    torn_at_ = size;
  } else {
    needs_newline_ = true;
  }
}

absl::Status AppendFile::Sync() {
  if (!fd_.valid()) return absl::OkStatus();
  return SyncFd(fd_.get(), options_.path);
}

std::string AppendFile::RotatedName(int number) const {
  const std::string base = options_.path.substr(0, options_.path.size() - options_.suffix.size());
  return fmt::format("{}.{}{}", base, number, options_.suffix);
}

absl::Status AppendFile::Rotate() {
  for (int i = options_.rotate_keep - 1; i >= 0; --i) {
    const std::string from = i == 0 ? options_.path : RotatedName(i);
    if (rename(from.c_str(), RotatedName(i + 1).c_str()) != 0 && errno != ENOENT) {
      return FileError(errno, from);
    }
  }
  Close();
  return Open();
}

absl::Status AppendFile::Reopen() {
  if (fd_.valid() && SameFile(fd_.get(), options_.path)) return absl::OkStatus();
  ASSIGN_OR_RETURN(Opened opened, OpenPath());
  Close();
  Use(std::move(opened));
  return absl::OkStatus();
}

void AppendFile::Use(Opened opened) {
  fd_ = std::move(opened.fd);
  needs_newline_ = opened.needs_newline;
  torn_at_.reset();
}

void AppendFile::Close() {
  if (options_.sync && fd_.valid()) {
    if (absl::Status synced = Sync(); !synced.ok()) {
      log_->Error("file_sync_failed", "cannot bring the file to the device",
                  {{"error", std::string(synced.message())}});
    }
  }
  fd_.reset();
}

}  // namespace mobula
