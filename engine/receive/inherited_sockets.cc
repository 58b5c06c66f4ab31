// Tested by tests/unit/engine/receive/inherited_sockets_test.cc and tests/e2e/activation_test.py.
#include "engine/receive/inherited_sockets.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"

namespace mobula {
namespace {

// The number in a variable, which is removed; 0 without it.
int TakeNumber(const char* name) {
  int number = 0;
  const char* const text = std::getenv(name);
  if (text == nullptr || !absl::SimpleAtoi(text, &number)) number = 0;
  unsetenv(name);
  return number;
}

int Option(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

absl::Status Unusable(int fd, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format(
      "descriptor {}, which was handed over by whoever started this (LISTEN_FDS), {}", fd, why));
}

// Whether both are bound to the same address.
bool SameAddress(int one, int other) {
  sockaddr_storage a{};
  sockaddr_storage b{};
  socklen_t a_length = sizeof a;
  socklen_t b_length = sizeof b;
  return getsockname(one, reinterpret_cast<sockaddr*>(&a), &a_length) == 0 &&
         getsockname(other, reinterpret_cast<sockaddr*>(&b), &b_length) == 0 &&
         a_length == b_length && std::memcmp(&a, &b, a_length) == 0;
}

}  // namespace

absl::StatusOr<InheritedSockets> TakeInheritedSockets(int first) {
  const int pid = TakeNumber("LISTEN_PID");
  const int count = TakeNumber("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  InheritedSockets found;
  if (pid != getpid() || count <= 0) return found;
  for (int fd = first; fd - first < count; ++fd) {
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      return Unusable(fd, fmt::format("is not there: {}", std::strerror(errno)));
    }
    const int domain = Option(fd, SO_DOMAIN);
    const bool udp = domain == AF_INET || domain == AF_INET6;
    if (Option(fd, SO_TYPE) != SOCK_DGRAM || (!udp && domain != AF_UNIX)) {
      return Unusable(fd,
                      "is no UDP socket and no Unix datagram socket: ListenDatagram= makes those");
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return Unusable(fd, std::strerror(errno));
    if (udp) {
      if (!found.udp.empty() && !SameAddress(found.udp.front().get(), fd)) {
        return Unusable(fd, "is bound to another address than the UDP socket before it");
      }
      found.udp.emplace_back(fd);
    } else if (found.unix_socket.valid()) {
      return Unusable(fd, "is a second Unix socket, and there is one receiver for those");
    } else {
      found.unix_socket = UniqueFd(fd);
    }
  }
  return found;
}

}  // namespace mobula
