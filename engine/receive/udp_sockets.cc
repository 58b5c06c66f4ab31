// Tested by tests/unit/engine/receive/udp_sockets_test.cc.
#include "engine/receive/udp_sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>
#include <thread>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr Duration kPortFreedWithin = std::chrono::milliseconds(500);
constexpr Duration kPredecessorAnswersWithin = std::chrono::seconds(3);
// Where the kernel does not say when there is none any more: a datagram's way from its sender to the socket.
constexpr Duration kUnderWayMax = std::chrono::milliseconds(20);

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

Address BoundAddress(int fd) {
  Address address;
  address.length = sizeof address.storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  return address;
}

absl::Status BindError(const Address& address, int error) {
  const std::string text =
      fmt::format("cannot listen on udp {}: {}", address.text(), std::strerror(error));
  if (error == EADDRINUSE) {
    return absl::AlreadyExistsError(
        text +
        "; another program, perhaps another agent, has the port: choose another with "
        "receivers.udp.address, or start with --takeover to take the place of an agent of the same "
        "user");
  }
  if (error == EACCES) return absl::PermissionDeniedError(text);
  return absl::InvalidArgumentError(text);
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

// With one privileged megabyte to hand out there is no need for a second socket; without privilege each
// socket brings a queue of its own, which is the only way to a larger one.
int SocketsPerWorker(const UdpConfig& config, uint64_t effective) {
  if (config.sockets > 0) return config.sockets;
  constexpr uint64_t kMost = 16;
  return static_cast<int>(
      std::clamp<uint64_t>((config.receive_buffer + effective - 1) / effective, 1, kMost));
}

// Has each datagram go to a random one of the group's first `sockets`: the kernel's hash would send every datagram of
// one sender, and with few senders nearly all, to one socket. Never a second time for one group: kernels before May 2026
// free the program that is replaced while it may still be running.
absl::Status SteerAtRandom(int fd, size_t sockets) {
  std::array<sock_filter, 3> code = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)},
      {BPF_ALU | BPF_MOD | BPF_K, 0, 0, static_cast<uint32_t>(sockets)},
      {BPF_RET | BPF_A, 0, 0, 0},
  }};
  const sock_fprog program{static_cast<uint16_t>(code.size()), code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      fmt::format("cannot spread datagrams over the sockets: {}", std::strerror(errno)));
}

void SetReusePort(int fd, int on) { setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); }

// `group`: of how many sockets it is the first; 0: it joins that of whoever has the port.
absl::StatusOr<UniqueFd> Bind(const UdpConfig& config, Address* address, size_t group) {
  UniqueFd fd(socket(address->family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return BindError(*address, errno);
  const int zero = 0;
  if (address->dual_stack()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  SetReceiveBuffer(fd.get(), config.receive_buffer);
  SetReusePort(fd.get(), 1);
  if (group > 0) {
    // Makes the group while nobody else can be in it. One socket does without where programs are refused.
    const absl::Status steered = SteerAtRandom(fd.get(), group);
    if (group > 1) RETURN_IF_ERROR(steered);
    // Bound without the option, it proves that nobody has the port; with it again, others may join.
    SetReusePort(fd.get(), 0);
  }
  if (bind(fd.get(), address->get(), address->length) != 0) return BindError(*address, errno);
  SetReusePort(fd.get(), 1);
  *address = BoundAddress(fd.get());
  return fd;
}

// What one socket may have.
uint64_t FindReceiveBuffer(const Address& address, uint64_t wanted) {
  const UniqueFd fd(socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return SetReceiveBuffer(fd.get(), wanted);
}

// The first of `wanted` sockets. That of a process that was killed lives on for some milliseconds when an io_uring holds
// it: whoever restarts at once must not fail for that.
absl::StatusOr<UniqueFd> BindFirst(const UdpConfig& config, Address* address, size_t wanted,
                                   PortUse use, std::optional<Predecessor>* predecessor) {
  const Time until = std::chrono::steady_clock::now() + kPortFreedWithin;
  for (;;) {
    if (use == PortUse::kShared) *predecessor = Predecessor::Find(address->text());
    absl::StatusOr<UniqueFd> fd = Bind(config, address, predecessor->has_value() ? 0 : wanted);
    if (!absl::IsAlreadyExists(fd.status()) || std::chrono::steady_clock::now() >= until) return fd;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// Whether the kernel has waited until every datagram that was on its way has been put into its socket or dropped.
bool WaitForDatagramsUnderWay() {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

void StopArrivals(int socket) {
  const int family = BoundAddress(socket).family();
  if (family == AF_UNIX) {
    (void)shutdown(socket, SHUT_RD);
    return;
  }
  // Port 9 of ourselves; if even that is refused, the socket stays open to all and is closed a little later.
  if (family == AF_INET6) {
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
  // A connected socket may stay in its group, where the steering program still picks it. Bound to a device, it leaves.
  (void)setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
}

// Divides `all`, which have one address, among the workers.
void Fill(const UdpConfig& config, int workers, std::vector<UniqueFd> all, UdpSockets* result) {
  const Address address = BoundAddress(all.front().get());
  result->address = address.text();
  result->port = address.port();
  result->by_worker.resize(std::min(static_cast<size_t>(workers), all.size()));
  for (size_t i = 0; i < all.size(); ++i) {
    result->by_worker[i % result->by_worker.size()].push_back(std::move(all[i]));
  }
  const size_t per_worker = result->by_worker.back().size();
  if (const uint64_t total = result->receive_buffer * per_worker; total < config.receive_buffer) {
    result->warnings.push_back(
        fmt::format("the kernel gives each UDP worker a queue of {} KiB where {} KiB were asked "
                    "for: a burst of "
                    "more than {} segments of 700 bytes may lose some. Allow more with: "
                    "sysctl -w net.core.rmem_max={}",
                    total / 1024, config.receive_buffer / 1024, total / TrueSize(700),
                    config.receive_buffer / 2));
  }
}

}  // namespace

absl::StatusOr<UdpSockets> OpenUdpSockets(const UdpConfig& config, int workers, PortUse use) {
  CHECK(workers > 0);
  ASSIGN_OR_RETURN(Address address, Resolve(config.address));
  UdpSockets result;
  result.receive_buffer = FindReceiveBuffer(address, config.receive_buffer);
  auto sockets = static_cast<size_t>(workers) *
                 static_cast<size_t>(SocketsPerWorker(config, result.receive_buffer));
  std::vector<UniqueFd> all(1);
  ASSIGN_OR_RETURN(all.front(), BindFirst(config, &address, sockets, use, &result.predecessor));
  if (result.predecessor) {
    // The group's program goes on picking among as many as the first agent had.
    const size_t theirs = result.predecessor->WaitForSockets(kPredecessorAnswersWithin);
    if (theirs == 0) {
      result.warnings.push_back(fmt::format(
          "the agent whose port is taken over does not say how many UDP sockets it has: with "
          "another number than {} datagrams are spread unevenly over those of this one",
          sockets));
    } else if (theirs != sockets) {
      result.warnings.push_back(fmt::format(
          "the agent whose port is taken over has {} UDP sockets, and so has this one in place of "
          "{}: receivers.udp.workers, sockets and receive_buffer as configured take effect at a "
          "start without a takeover",
          theirs, sockets));
      sockets = theirs;
    }
  }
  while (all.size() < sockets) {
    ASSIGN_OR_RETURN(all.emplace_back(), Bind(config, &address, 0));
  }
  Fill(config, workers, std::move(all), &result);
  return result;
}

absl::StatusOr<UdpSockets> AdoptUdpSockets(const UdpConfig& config, int workers,
                                           std::vector<UniqueFd> sockets) {
  CHECK(workers > 0 && !sockets.empty());
  UdpSockets result;
  result.inherited = true;
  result.receive_buffer = UINT64_MAX;
  uint64_t dropped = 0;
  for (const UniqueFd& fd : sockets) {
    result.receive_buffer =
        std::min(result.receive_buffer, SetReceiveBuffer(fd.get(), config.receive_buffer));
    dropped += KernelDrops(fd.get());
  }
  Fill(config, workers, std::move(sockets), &result);
  ASSIGN_OR_RETURN(const Address configured, Resolve(config.address));
  if (configured.text() != result.address) {
    result.warnings.push_back(fmt::format(
        "receivers.udp.address is {}, but the sockets that were handed over (LISTEN_FDS) "
        "are bound to {}, which counts",
        config.address, result.address));
  }
  if (dropped > 0) {
    result.warnings.push_back(
        fmt::format("the kernel dropped {} datagrams of the sockets that were handed over "
                    "(LISTEN_FDS) since they were bound and before this start",
                    dropped));
  }
  return result;
}

uint64_t KernelDrops(int socket) noexcept {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t length = sizeof info;
  if (getsockopt(socket, SOL_SOCKET, SO_MEMINFO, info.data(), &length) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

void StopArrivals(std::span<const int> sockets) noexcept {
  for (const int socket : sockets) StopArrivals(socket);
  if (!WaitForDatagramsUnderWay()) std::this_thread::sleep_for(kUnderWayMax);
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
