// Binds the UDP sockets of all workers, first thing at start: from then on the kernel holds what arrives.
//
// Room:    cold.
// Errors:  InvalidArgument for an address that cannot be resolved; AlreadyExists when the port is taken, also
//          by another instance of this program, and not free within half a second; otherwise what the kernel said.
// Limits:  the kernel charges a datagram's truesize (700 bytes cost 2,304) and doubles what SO_RCVBUF asks
//          for; all sizes here are the effective ones (socket(7)).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/unique_fd.h"
#include "engine/config/config.h"

namespace mobula {

struct UdpSockets {
  std::vector<std::vector<UniqueFd>> by_worker;
  std::string address;  // as bound: "0.0.0.0:2000", "[::]:2000", with the real port
  uint16_t port = 0;
  uint64_t receive_buffer = 0;        // effective bytes per socket
  std::vector<std::string> warnings;  // what to tell once the log is open
};

// REQUIRES: workers > 0.
absl::StatusOr<UdpSockets> OpenUdpSockets(const UdpConfig& config, int workers);

// Datagrams the kernel dropped because the socket's queue was full, since it was opened (SO_MEMINFO).
uint64_t KernelDrops(int socket) noexcept;

// From now on no new datagram reaches the socket, UDP or Unix, while those it holds can still be read: it is
// connected to an address nobody sends from, or shut down, so that its senders get EPIPE.
void StopArrivals(int socket) noexcept;

// How many workers `configured` means with `cores` allowed cores: 0 (auto) is one below 8 cores, else one
// per 8, at most 8; -1 is one per core.
int WorkerCount(int configured, int cores) noexcept;

// What the kernel charges a queue for one datagram of `bytes` (measured: 300 -> 1,280, 700 -> 2,304,
// 2,000 -> 4,352, 16,000 -> 16,640).
uint64_t TrueSize(uint64_t bytes) noexcept;

}  // namespace mobula
