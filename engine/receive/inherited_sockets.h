// The sockets that systemd, or whoever else starts this program, has bound for it (sd_listen_fds(3)). They outlive it:
// what comes while it is started again waits in them.
//
// Room:      cold.
// Threads:   one, at the start: the environment is changed.
// Ownership: the descriptors are ours, the sockets are shared with whoever bound them: nothing that would stop them
//            from receiving may be done to them.
// Errors:    InvalidArgument for what no receiver can have: a stream, UDP of two addresses, a second Unix socket.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/unique_fd.h"

namespace mobula {

struct InheritedSockets {
  std::vector<UniqueFd> udp;  // of one address
  UniqueFd unix_socket;       // not valid: none
};

// Those that the environment tells of; none if it tells of none, or means another process. What is started from here is
// told of none. `first`: the number of the first one, which is always the same but for tests.
absl::StatusOr<InheritedSockets> TakeInheritedSockets(int first = 3);

}  // namespace mobula
