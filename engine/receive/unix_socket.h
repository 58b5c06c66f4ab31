// Binds the Unix datagram socket: for pods that share a volume with the agent, and for documents over UDP's
// 65,507 bytes.
//
// Room:      cold.
// Lifecycle: open while the object lives; its end removes the file, if it is still the one made here. Beside an agent
//            that listens there it waits under the path and "~" until TakePath.
// Errors:    InvalidArgument for a path that is too long or cannot be bound; AlreadyExists when something else
//            than a socket lies there, or a program listens there; PermissionDenied; Unavailable when the folder of
//            a stale socket stays locked for two seconds (of several agents that start at once, one gets the path).
// Limits:    a path of 107 bytes; a datagram as large as one of kUnixSlots, whose senders need an SO_SNDBUF to
//            match. The kernel queues net.unix.max_dgram_qlen datagrams and has no other limit (SO_RCVBUF means
//            nothing); beyond, a sender waits or gets EAGAIN. Nothing is dropped behind its back: KernelDrops
//            is always 0 here.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/port_use.h"
#include "engine/base/unique_fd.h"
#include "engine/batch/batch_builder.h"
#include "engine/config/config.h"
#include "engine/receive/datagram_source.h"

namespace mobula {

// What a worker on a Unix socket receives into: each datagram as large as a batch can take.
inline constexpr DatagramSlots kUnixSlots{16, BatchBuilder::kDocumentBytesMax};

class UnixSocket {
 public:
  UnixSocket(UnixSocket&& other) noexcept;
  UnixSocket& operator=(UnixSocket&&) = delete;
  UnixSocket(const UnixSocket&) = delete;
  ~UnixSocket();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // It outlives us: nothing may stop its arrivals.
  [[nodiscard]] bool inherited() const noexcept { return inherited_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Puts the file in the place of that of the agent which has the path: who sends to the path sends here from now on.
  // Does nothing when it is there already.
  absl::Status TakePath();

  // What a worker may take for the size of the queue, so that it wakes up before the kernel's limit, which
  // counts datagrams, is reached.
  [[nodiscard]] uint64_t queue_bytes() const noexcept { return queue_bytes_; }
  // What to tell once the log is open.
  [[nodiscard]] const std::vector<std::string>& warnings() const noexcept { return warnings_; }

 private:
  friend absl::StatusOr<UnixSocket> OpenUnixSocket(const UnixConfig& config, PortUse use);
  friend UnixSocket AdoptUnixSocket(UniqueFd fd);
  UnixSocket(UniqueFd fd, std::string path);

  UniqueFd fd_;
  std::string path_;    // of the file
  std::string wanted_;  // where it is to be; empty: where it is
  uint64_t queue_bytes_ = 0;
  std::vector<std::string> warnings_;
  bool inherited_ = false;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// kShared: also while another agent listens there.
// REQUIRES: config.path is not empty.
absl::StatusOr<UnixSocket> OpenUnixSocket(const UnixConfig& config, PortUse use = PortUse::kAlone);
// Takes one that somebody else has bound (InheritedSockets), and leaves its file alone.
UnixSocket AdoptUnixSocket(UniqueFd fd);

}  // namespace mobula
