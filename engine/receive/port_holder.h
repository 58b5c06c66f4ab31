// How two agents find each other when one takes the UDP port of the other: an abstract Unix socket named after the
// address. That a connection to it can be made tells the successor that there is an agent, and which process it is; that
// the connection breaks, that the agent receives no more. All that is said over it is the number of the agent's sockets;
// the agent never reads from it.
//
// Room:    cold.
// Threads: one.
// Errors:  a name that somebody else has is AlreadyExists. What is no agent of this user is never found, and what
//          connects from another user is turned away.
// Limits:  agents of one network namespace; kSuccessorsMax connections, others wait in the kernel's queue.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/time.h"
#include "engine/base/unique_fd.h"

namespace mobula {

// The sign of the agent that has a port.
class PortHolder {
 public:
  static constexpr size_t kSuccessorsMax = 8;

  // `address` as bound: "0.0.0.0:2000"; `sockets` of ours are bound to it.
  static absl::StatusOr<PortHolder> Show(const std::string& address, size_t sockets);
  // About once a second, and when there is something to read from waiting_fd(), which may be -1: takes in those that
  // wait, forgets those that went.
  void Tend();
  [[nodiscard]] int waiting_fd() const {
    return successors_.size() < kSuccessorsMax ? listener_.get() : -1;
  }

 private:
  PortHolder(UniqueFd listener, size_t sockets)
      : listener_(std::move(listener)), sockets_(sockets) {}

  UniqueFd listener_;
  size_t sockets_;
  std::vector<UniqueFd> successors_;
};

// The agent that has the port, as its successor sees it.
class Predecessor {
 public:
  static std::optional<Predecessor> Find(const std::string& address);

  // How many sockets it has; 0 when it does not say so within `wait`.
  [[nodiscard]] size_t WaitForSockets(Duration wait) const;
  // SIGTERM. FailedPrecondition when its process cannot be seen from here, as in another container;
  // PermissionDenied when it may not be told.
  [[nodiscard]] absl::Status AskToEnd() const;
  // It receives no more, or has died.
  [[nodiscard]] bool Gone() const;

 private:
  Predecessor(UniqueFd connection, pid_t pid) : connection_(std::move(connection)), pid_(pid) {}

  UniqueFd connection_;
  pid_t pid_;  // 0: of another process namespace
};

}  // namespace mobula
