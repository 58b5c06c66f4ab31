// Tested by tests/unit/engine/receive/unix_socket_test.cc.
#include "engine/receive/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/receive/udp_sockets.h"

namespace mobula {
namespace {

// Below this a burst of a busy service already makes its senders wait.
constexpr uint64_t kQueueWanted = 128;

absl::Status Error(const std::string& path, std::string_view what, int error) {
  const std::string text =
      fmt::format("cannot listen on unix:{}: {}: {}", path, what, std::strerror(error));
  if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(text);
  if (error == ENOENT) {
    return absl::InvalidArgumentError(text + "; the folder of receivers.unix.path must exist");
  }
  return absl::InvalidArgumentError(text);
}

absl::StatusOr<UniqueFd> NewSocket(const std::string& path) {
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error(path, "socket", errno);
  return fd;
}

// Keeps others that start at the same time from the path's folder: between looking at a stale socket and taking its
// place, another agent may have taken it.
absl::StatusOr<UniqueFd> LockFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A folder that may be written to but not read, or on a file system without locks.
  if (!fd.valid()) return fd;
  for (int tries = 0; tries < 200; ++tries) {
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return fd;
    poll(nullptr, 0, 10);
  }
  return absl::UnavailableError(
      fmt::format("cannot listen on unix:{}: another program keeps a lock on {}", path, folder));
}

// Removes a socket file that nobody is bound to any more; anything else stays, and is the error.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : Error(path, "lstat", errno);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(
        fmt::format("cannot listen on unix:{0}: {0} exists and is no socket; remove it, or choose "
                    "another receivers.unix.path",
                    path));
  }
  ASSIGN_OR_RETURN(const UniqueFd probe, NewSocket(path));
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno == EPROTOTYPE) {
    return absl::AlreadyExistsError(
        fmt::format("cannot listen on unix:{}: another program, perhaps another agent, listens "
                    "there; choose another receivers.unix.path",
                    path));
  }
  if (errno == ENOENT) return absl::OkStatus();
  if (errno != ECONNREFUSED) return Error(path, "connect", errno);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return Error(path, "unlink", errno);
  return absl::OkStatus();
}

// How many datagrams the kernel keeps for a socket of this network namespace.
uint64_t QueueLength() {
  std::ifstream in("/proc/sys/net/unix/max_dgram_qlen");
  uint64_t length = 0;
  constexpr uint64_t kDefault = 10;
  return in >> length ? length : kDefault;
}

}  // namespace

UnixSocket::UnixSocket(UnixSocket&& other) noexcept
    : fd_(std::move(other.fd_)),
      path_(std::exchange(other.path_, {})),
      queue_bytes_(other.queue_bytes_),
      warnings_(std::move(other.warnings_)),
      device_(other.device_),
      inode_(other.inode_) {}

UnixSocket::~UnixSocket() {
  if (path_.empty()) return;
  // Somebody may have put a socket of his own there meanwhile.
  struct stat now {};
  if (lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

absl::StatusOr<UnixSocket> OpenUnixSocket(const UnixConfig& config) {
  CHECK(!config.path.empty());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (config.path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(fmt::format(
        "receivers.unix.path: {} has {} bytes; the path of a Unix socket has at most {}",
        config.path, config.path.size(), sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, config.path.data(), config.path.size());

  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket(config.path));
  // The file is made with the mode of the open socket less the umask: never with more than is asked for.
  const auto mode = static_cast<mode_t>(config.mode);
  if (fchmod(fd.get(), mode) != 0) return Error(config.path, "fchmod", errno);
  const auto* const to = reinterpret_cast<const sockaddr*>(&address);
  int bound = bind(fd.get(), to, sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(config.path));
    RETURN_IF_ERROR(RemoveStale(config.path, address));
    bound = bind(fd.get(), to, sizeof address);
  }
  if (bound != 0) return Error(config.path, "bind", errno);

  UnixSocket result(std::move(fd), config.path);
  struct stat made {};
  if (lstat(config.path.c_str(), &made) != 0) return Error(config.path, "lstat", errno);
  result.device_ = made.st_dev;
  result.inode_ = made.st_ino;
  if (chmod(config.path.c_str(), mode) != 0) return Error(config.path, "chmod", errno);

  const uint64_t queue = QueueLength();
  result.queue_bytes_ = queue * TrueSize(0);
  if (queue < kQueueWanted) {
    result.warnings_.push_back(
        fmt::format("the kernel queues {} datagrams on unix:{}; a burst of more makes its senders "
                    "wait, or get EAGAIN. Allow more with: sysctl -w net.unix.max_dgram_qlen=512",
                    queue, config.path));
  }
  return result;
}

}  // namespace mobula
