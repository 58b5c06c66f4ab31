// Tested by tests/unit/engine/receive/udp_sockets_test.cc.
#include "engine/receive/udp_sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <thread>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kPortFreedWithin = std::chrono::milliseconds(500);

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
  // IPv4 and IPv6 on one socket, as Go's "udp" network listens on an unspecified address.
  [[nodiscard]] bool dual_stack() const {
    return family() == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr);
  }
  void set_port(uint16_t port) {
    // sin_port and sin6_port lie at the same place.
    reinterpret_cast<sockaddr_in*>(&storage)->sin_port = htons(port);
  }
  [[nodiscard]] uint16_t port() const {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  }
  [[nodiscard]] std::string text() const {
    std::array<char, INET6_ADDRSTRLEN> host{};
    if (family() == AF_INET6) {
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, host.data(),
                host.size());
      return fmt::format("[{}]:{}", host.data(), port());
    }
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, host.data(),
              host.size());
    return fmt::format("{}:{}", host.data(), port());
  }
};

bool Ipv6Works() { return UniqueFd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)).valid(); }

// Resolves "host:port". An empty host is every address of both families, a name its first IPv4 address.
absl::StatusOr<Address> Resolve(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(fmt::format("{}: expected host:port", text));
  }
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (host.empty()) host = Ipv6Works() ? "::" : "0.0.0.0";
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int e = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); e != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "cannot resolve {}: {}", text, e == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(e)));
  }
  const addrinfo* best = found;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    if (a->ai_family == AF_INET) {
      best = a;
      break;
    }
  }
  Address address;
  std::memcpy(&address.storage, best->ai_addr, best->ai_addrlen);
  address.length = best->ai_addrlen;
  freeaddrinfo(found);
  return address;
}

absl::Status BindError(const Address& address, int error) {
  const std::string text =
      fmt::format("cannot listen on udp {}: {}", address.text(), std::strerror(error));
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(
        text +
        "; another program, perhaps another agent, has the port: choose another with "
        "receivers.udp.address");
  }
  if (error == EACCES) return absl::PermissionDeniedError(text);
  return absl::InvalidArgumentError(text);
}

absl::StatusOr<UniqueFd> Bind(Address* address, bool share) {
  UniqueFd fd(socket(address->family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return BindError(*address, errno);
  const int one = 1;
  const int zero = 0;
  if (share) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  if (address->dual_stack()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  if (bind(fd.get(), address->get(), address->length) != 0) return BindError(*address, errno);
  socklen_t length = sizeof address->storage;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address->storage), &length);
  return fd;
}

// The socket of a process that was killed lives on for some milliseconds when an io_uring holds it: whoever
// restarts at once must not fail for that.
absl::StatusOr<UniqueFd> BindAlone(Address* address) {
  const Time until = std::chrono::steady_clock::now() + kPortFreedWithin;
  for (;;) {
    absl::StatusOr<UniqueFd> fd = Bind(address, /*share=*/false);
    if (!absl::IsAlreadyExists(fd.status()) || std::chrono::steady_clock::now() >= until) return fd;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// Asks for `wanted` effective bytes, with privilege or without, and answers what the kernel gave.
uint64_t SetReceiveBuffer(int fd, uint64_t wanted) {
  const int half = static_cast<int>(std::min<uint64_t>(wanted / 2, 1U << 30));
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof half) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
  }
  int effective = 0;
  socklen_t length = sizeof effective;
  getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &effective, &length);
  return static_cast<uint64_t>(effective);
}

// A random socket of the group for each datagram: the kernel's hash would send every datagram of one
// sender, and with few senders nearly all, to one socket.
absl::Status SpreadAtRandom(int fd, unsigned sockets) {
  std::array<sock_filter, 3> code = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)},
      {BPF_ALU | BPF_MOD | BPF_K, 0, 0, sockets},
      {BPF_RET | BPF_A, 0, 0, 0},
  }};
  const sock_fprog program{static_cast<uint16_t>(code.size()), code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) != 0) {
    return absl::InternalError(
        fmt::format("cannot spread datagrams over the sockets: {}", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// With one privileged megabyte to hand out there is no need for a second socket; without privilege each
// socket brings a queue of its own, which is the only way to a larger one.
int SocketsPerWorker(const UdpConfig& config, uint64_t effective) {
  if (config.sockets > 0) return config.sockets;
  constexpr uint64_t kMost = 8;
  return static_cast<int>(
      std::clamp<uint64_t>((config.receive_buffer + effective - 1) / effective, 1, kMost));
}

}  // namespace

absl::StatusOr<UdpSockets> OpenUdpSockets(const UdpConfig& config, int workers) {
  CHECK(workers > 0);
  ASSIGN_OR_RETURN(Address address, Resolve(config.address));
  UdpSockets result;
  // The first socket alone: proves that nobody has the port, and shows how large a queue we may have.
  ASSIGN_OR_RETURN(UniqueFd first, BindAlone(&address));
  result.receive_buffer = SetReceiveBuffer(first.get(), config.receive_buffer);
  const int per_worker = SocketsPerWorker(config, result.receive_buffer);
  const int sockets = workers * per_worker;
  std::vector<UniqueFd> all;
  if (sockets == 1) {
    all.push_back(std::move(first));
  } else {
    first.reset();
    for (int i = 0; i < sockets; ++i) {
      ASSIGN_OR_RETURN(UniqueFd fd, Bind(&address, /*share=*/true));
      SetReceiveBuffer(fd.get(), config.receive_buffer);
      all.push_back(std::move(fd));
    }
    RETURN_IF_ERROR(SpreadAtRandom(all.front().get(), static_cast<unsigned>(sockets)));
  }
  for (int w = 0; w < workers; ++w) {
    result.by_worker.emplace_back();
    for (int s = 0; s < per_worker; ++s) {
      result.by_worker.back().push_back(std::move(all[static_cast<size_t>(w * per_worker + s)]));
    }
  }
  result.address = address.text();
  result.port = address.port();
  if (const uint64_t total = result.receive_buffer * static_cast<uint64_t>(per_worker);
      total < config.receive_buffer) {
    result.warnings.push_back(
        fmt::format("the kernel gives each UDP worker a queue of {} KiB where {} KiB were asked "
                    "for: a burst of "
                    "more than {} segments of 700 bytes may lose some. Allow more with: "
                    "sysctl -w net.core.rmem_max={}",
                    total / 1024, config.receive_buffer / 1024, total / TrueSize(700),
                    config.receive_buffer / 2));
  }
  return result;
}

uint64_t KernelDrops(int socket) noexcept {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t length = sizeof info;
  if (getsockopt(socket, SOL_SOCKET, SO_MEMINFO, info.data(), &length) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

void StopArrivals(int socket) noexcept {
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&own), &length) != 0) return;
  if (own.ss_family == AF_UNIX) {
    (void)shutdown(socket, SHUT_RD);
    return;
  }
  // Port 9 of ourselves; if even that is refused, the socket stays open to all and is closed a little later.
  if (own.ss_family == AF_INET6) {
    sockaddr_in6 nobody{};
    nobody.sin6_family = AF_INET6;
    nobody.sin6_port = htons(9);
    nobody.sin6_addr = in6addr_loopback;
    (void)connect(socket, reinterpret_cast<const sockaddr*>(&nobody), sizeof nobody);
  } else {
    sockaddr_in nobody{};
    nobody.sin_family = AF_INET;
    nobody.sin_port = htons(9);
    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)connect(socket, reinterpret_cast<const sockaddr*>(&nobody), sizeof nobody);
  }
}

int WorkerCount(int configured, int cores) noexcept {
  if (configured > 0) return configured;
  if (configured < 0) return std::max(1, cores);
  return std::clamp(cores / 8, 1, 8);
}

uint64_t TrueSize(uint64_t bytes) noexcept {
  // sk_buff and its shared info take about 362 bytes beside the payload, the head is rounded up to a power
  // of two up to 8 KiB, and 256 bytes are the sk_buff itself; larger payloads lie in page fragments.
  if (bytes > 7800) return bytes + 640;
  return std::bit_ceil(bytes + 362) + 256;
}

}  // namespace mobula
