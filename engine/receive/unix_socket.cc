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
#include <cstddef>
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
// Behind the path, of a socket that is to take another's place.
constexpr std::string_view kBeside = "~";

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

// REQUIRES: it fits.
sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  CHECK(path.size() < sizeof address.sun_path);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Whether datagrams can be sent there now.
bool IsTaken(const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const auto probe = NewSocket(path);
  return probe.ok() &&
         connect(probe->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// Binds to a path that nobody has, or only a stale socket.
absl::Status Bind(int fd, const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(fmt::format(
        "receivers.unix.path: {} has {} bytes; the path of a Unix socket has at most {}", path,
        path.size(), sizeof(sockaddr_un::sun_path) - 1));
  }
  const sockaddr_un address = AddressOf(path);
  const auto* const to = reinterpret_cast<const sockaddr*>(&address);
  int bound = bind(fd, to, sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(path));
    RETURN_IF_ERROR(RemoveStale(path, address));
    bound = bind(fd, to, sizeof address);
  }
  return bound == 0 ? absl::OkStatus() : Error(path, "bind", errno);
}

// How many datagrams the kernel keeps for a socket of this network namespace.
uint64_t QueueLength() {
  std::ifstream in("/proc/sys/net/unix/max_dgram_qlen");
  uint64_t length = 0;
  constexpr uint64_t kDefault = 10;
  return in >> length ? length : kDefault;
}

}  // namespace

UnixSocket::UnixSocket(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {
  const uint64_t queue = QueueLength();
  queue_bytes_ = queue * TrueSize(0);
  if (queue < kQueueWanted) {
    warnings_.push_back(
        fmt::format("the kernel queues {} datagrams on unix:{}; a burst of more makes its senders "
                    "wait, or get EAGAIN. Allow more with: sysctl -w net.unix.max_dgram_qlen=512",
                    queue, path_));
  }
}

UnixSocket::UnixSocket(UnixSocket&& other) noexcept
    : fd_(std::move(other.fd_)),
      path_(std::exchange(other.path_, {})),
      wanted_(std::move(other.wanted_)),
      queue_bytes_(other.queue_bytes_),
      warnings_(std::move(other.warnings_)),
      inherited_(other.inherited_),
      device_(other.device_),
      inode_(other.inode_) {}

UnixSocket::~UnixSocket() {
  if (path_.empty() || inherited_) return;
  // Somebody may have put a socket of his own there meanwhile.
  struct stat now {};
  if (lstat(path_.c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

absl::Status UnixSocket::TakePath() {
  if (wanted_.empty()) return absl::OkStatus();
  struct stat there {};
  if (lstat(wanted_.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
    return Error(wanted_, "it is no socket any more", EEXIST);
  }
  if (rename(path_.c_str(), wanted_.c_str()) != 0) return Error(wanted_, "rename", errno);
  path_ = std::exchange(wanted_, {});
  return absl::OkStatus();
}

absl::StatusOr<UnixSocket> OpenUnixSocket(const UnixConfig& config, PortUse use) {
  CHECK(!config.path.empty());
  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket(config.path));
  // The file is made with the mode of the open socket less the umask: never with more than is asked for.
  const auto mode = static_cast<mode_t>(config.mode);
  if (fchmod(fd.get(), mode) != 0) return Error(config.path, "fchmod", errno);
  std::string path = config.path;
  absl::Status bound = Bind(fd.get(), path);
  if (absl::IsAlreadyExists(bound) && use == PortUse::kShared && IsTaken(path)) {
    path += kBeside;
    bound = Bind(fd.get(), path);
  }
  RETURN_IF_ERROR(bound);

  UnixSocket result(std::move(fd), config.path);
  if (path != config.path) result.wanted_ = std::exchange(result.path_, path);
  struct stat made {};
  if (lstat(path.c_str(), &made) != 0) return Error(path, "lstat", errno);
  result.device_ = made.st_dev;
  result.inode_ = made.st_ino;
  if (chmod(path.c_str(), mode) != 0) return Error(path, "chmod", errno);
  return result;
}

UnixSocket AdoptUnixSocket(UniqueFd fd) {
  sockaddr_un address{};
  socklen_t length = sizeof address;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  // One without a file has a name that begins with a zero byte, as people write it: @name.
  const size_t begin = offsetof(sockaddr_un, sun_path);
  std::string path(address.sun_path, length > begin ? length - begin : 0);
  if (!path.empty() && path.front() == 0) path.front() = '@';
  path.resize(std::strlen(path.c_str()));
  UnixSocket result(std::move(fd), std::move(path));
  result.inherited_ = true;
  return result;
}

}  // namespace mobula
