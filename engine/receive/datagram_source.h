// Where a worker's datagrams come from: recvmmsg or io_uring, equals behind this.
//
// Room:      hot. One virtual call per burst, never per datagram.
// Lifecycle: made and opened by the worker's own thread, used by it only, destroyed by it.
// Threads:   the worker's; only Wake may be called by another.
// Ownership: the sockets stay the caller's. Datagrams point into the source's slots and die with Recycle.
// Limits:    128 slots of 64 KiB, with recvmmsg as many and as large as asked for; a datagram is whole or marked
//            truncated.
#pragma once

#include <netinet/in.h>

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/time.h"
#include "engine/config/config.h"

namespace mobula {

// What recvmmsg receives into. Pages that no datagram reached cost nothing.
struct DatagramSlots {
  size_t count = 64;  // at most DatagramSource::kSlots
  size_t bytes = 65536;
};

struct Datagram {
  const char* data;  // kScanPadding bytes behind it are readable
  uint32_t size;     // bytes received; the payload's own size even when truncated
  bool truncated;
  const sockaddr* source;  // null when the kernel gave none
};

class DatagramSource {
 public:
  static constexpr size_t kSlots = 128;
  static constexpr size_t kSlotBytes = 65536;

  virtual ~DatagramSource() = default;

  // Blocks until a datagram may be there, Wake was called, or `timeout` is over.
  virtual void Wait(Duration timeout) noexcept = 0;
  // Takes what the kernel holds, at most `out.size()` (kSlots is enough); 0 when it holds nothing now.
  // REQUIRES: Recycle was called since the last Receive.
  virtual size_t Receive(std::span<Datagram> out) noexcept = 0;
  // Gives the slots of the last Receive back.
  virtual void Recycle() noexcept = 0;
  // Takes nothing more from the kernel and lets go of the sockets: once Receive answers 0 they can be closed, or read
  // by somebody else. What was taken before still comes from Receive.
  virtual void Release() noexcept = 0;
  // Ends a Wait. Any thread.
  virtual void Wake() noexcept = 0;
};

// Opens the engine's source over `sockets`, on the calling thread; `slots` are for recvmmsg. kAuto is not
// allowed here: see ChooseEngine.
absl::StatusOr<std::unique_ptr<DatagramSource>> OpenDatagramSource(ReceiveEngine engine,
                                                                   std::vector<int> sockets,
                                                                   DatagramSlots slots = {});

// What `wanted` means on this kernel: kAuto is io_uring where one real receive through a ring completes,
// else recvmmsg with the reason in `why`. Asking for io_uring where it cannot work is an error.
absl::StatusOr<ReceiveEngine> ChooseEngine(ReceiveEngine wanted, std::string* why);

std::string_view ReceiveEngineName(ReceiveEngine engine) noexcept;

}  // namespace mobula
