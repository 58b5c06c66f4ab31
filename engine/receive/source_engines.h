// The two implementations of DatagramSource, for this folder only.
#pragma once

#include "engine/receive/datagram_source.h"

namespace mobula {

absl::StatusOr<std::unique_ptr<DatagramSource>> OpenRecvmmsgSource(std::vector<int> sockets,
                                                                   DatagramSlots slots);

// Unavailable when this kernel, or the sandbox around us, refuses io_uring or lacks what we need of it.
absl::StatusOr<std::unique_ptr<DatagramSource>> OpenUringSource(std::vector<int> sockets);

}  // namespace mobula
