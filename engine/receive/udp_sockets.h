// Binds the UDP sockets of all workers, first thing at start: from then on the kernel holds what arrives.
//
// Room:    cold.
// Errors:  InvalidArgument for an address that cannot be resolved; AlreadyExists when the port is taken, also
//          by another instance of this program, and not free within half a second; otherwise what the kernel said.
//
// All sockets are one SO_REUSEPORT group with a steering program that picks among its first ones, as many as there were
// when it was made. A successor's sockets join the group behind them and get nothing, until a socket's arrivals are
// stopped: then it leaves the group, and the last one takes its place.
//
// Limits:  the kernel charges a datagram's truesize (700 bytes cost 2,304) and doubles what SO_RCVBUF asks
//          for; all sizes here are the effective ones (socket(7)).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/port_use.h"
#include "engine/base/unique_fd.h"
#include "engine/config/config.h"
#include "engine/receive/port_holder.h"

namespace mobula {

struct UdpSockets {
  std::vector<std::vector<UniqueFd>> by_worker;
  std::string address;  // as bound: "0.0.0.0:2000", "[::]:2000", with the real port
  uint16_t port = 0;
  uint64_t receive_buffer = 0;        // effective bytes per socket
  std::vector<std::string> warnings;  // what to tell once the log is open
  bool inherited = false;             // they outlive us: nothing may stop their arrivals
  // Who has the port; absent: we do. With one, the sockets get nothing yet.
  std::optional<Predecessor> predecessor;
};

// kShared: beside the agent that has the port, if there is one, else as kAlone.
// REQUIRES: workers > 0.
absl::StatusOr<UdpSockets> OpenUdpSockets(const UdpConfig& config, int workers,
                                          PortUse use = PortUse::kAlone);

// Takes those that somebody else has bound (InheritedSockets::udp); their address counts, not that of `config`.
// REQUIRES: workers > 0, at least one socket.
absl::StatusOr<UdpSockets> AdoptUdpSockets(const UdpConfig& config, int workers,
                                           std::vector<UniqueFd> sockets);

// Datagrams the kernel dropped because the socket's queue was full, since it was opened (SO_MEMINFO).
uint64_t KernelDrops(int socket) noexcept;

// From here on no datagram comes to the sockets, UDP or Unix, while those that they hold can still be read: the first are
// connected to an address that nobody sends from and leave their group, so that datagrams go to others on the port; the
// second are shut down, so that senders get EPIPE. Waits some tens of ms, until none is on its way through the kernel.
void StopArrivals(std::span<const int> sockets) noexcept;

// How many workers `configured` means with `cores` allowed cores: 0 (auto) is one below 8 cores, else one
// per 8, at most 8; -1 is one per core.
int WorkerCount(int configured, int cores) noexcept;

// What the kernel charges a queue for one datagram of `bytes` (measured: 300 -> 1,280, 700 -> 2,304,
// 2,000 -> 4,352, 16,000 -> 16,640).
uint64_t TrueSize(uint64_t bytes) noexcept;

}  // namespace mobula
