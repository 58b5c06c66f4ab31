// Tested by tests/unit/engine/receive/port_holder_test.cc.
#include "engine/receive/port_holder.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace mobula {
namespace {

constexpr int kAcceptsMax = 32;  // at a time

struct Name {
  sockaddr_un address{};
  socklen_t length = 0;

  explicit Name(const std::string& of) {
    const std::string text = "mobula/udp/" + of;
    address.sun_family = AF_UNIX;
    // The first byte stays 0: no file, and gone with its socket.
    const size_t size = std::min(text.size(), sizeof address.sun_path - 1);
    std::memcpy(address.sun_path + 1, text.data(), size);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

UniqueFd NewSocket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Who is at the other end; of a listening socket: who made it listen.
std::optional<ucred> Peer(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer;
}

bool IsClosed(int fd) {
  pollfd polled{fd, 0, 0};
  return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace

absl::StatusOr<PortHolder> PortHolder::Show(const std::string& address, size_t sockets) {
  const Name name(address);
  UniqueFd fd = NewSocket();
  if (!fd.valid() || bind(fd.get(), name.get(), name.length) != 0 ||
      listen(fd.get(), SOMAXCONN) != 0) {
    const std::string text = fmt::format("cannot listen on the abstract Unix socket {}: {}",
                                         name.address.sun_path + 1, std::strerror(errno));
    return errno == EADDRINUSE ? absl::AlreadyExistsError(text) : absl::UnavailableError(text);
  }
  return PortHolder(std::move(fd), sockets);
}

void PortHolder::Tend() {
  std::erase_if(successors_, [](const UniqueFd& fd) { return IsClosed(fd.get()); });
  // Others of this machine may connect faster than we can turn them away.
  for (int i = 0; i < kAcceptsMax && successors_.size() < kSuccessorsMax; ++i) {
    UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) return;
    const std::optional<ucred> peer = Peer(fd.get());
    if (!peer || (peer->uid != geteuid() && peer->uid != 0)) continue;
    const auto count = static_cast<uint16_t>(sockets_);
    (void)send(fd.get(), &count, sizeof count, MSG_NOSIGNAL);
    successors_.push_back(std::move(fd));
  }
}

std::optional<Predecessor> Predecessor::Find(const std::string& address) {
  const Name name(address);
  UniqueFd fd = NewSocket();
  if (!fd.valid() || connect(fd.get(), name.get(), name.length) != 0) return std::nullopt;
  const std::optional<ucred> peer = Peer(fd.get());
  // Somebody else may have taken the name, to have another process of his choice ended.
  if (!peer || peer->uid != geteuid()) return std::nullopt;
  return Predecessor(std::move(fd), peer->pid);
}

size_t Predecessor::WaitForSockets(Duration wait) const {
  pollfd polled{connection_.get(), POLLIN, 0};
  (void)poll(&polled, 1, static_cast<int>(wait / std::chrono::milliseconds(1)));
  uint16_t count = 0;
  const ssize_t got = recv(connection_.get(), &count, sizeof count, 0);
  return got == static_cast<ssize_t>(sizeof count) ? count : 0;
}

absl::Status Predecessor::AskToEnd() const {
  if (pid_ <= 0) {
    return absl::FailedPreconditionError("its process cannot be seen from here");
  }
  if (Gone() || kill(pid_, SIGTERM) == 0 || errno == ESRCH) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("cannot signal process {}: {}", pid_, std::strerror(errno)));
}

bool Predecessor::Gone() const { return IsClosed(connection_.get()); }

}  // namespace mobula
