// Choosing the engine. Tested by tests/unit/engine/receive/datagram_source_test.cc.
#include "engine/receive/datagram_source.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "engine/receive/source_engines.h"

namespace mobula {
namespace {

// Builds a real ring and completes one real receive through it: seccomp profiles, sysctls and old kernels
// refuse io_uring at different calls, and only this one proof covers all of them.
absl::Status ProbeUring() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return absl::UnavailableError(std::string("socketpair: ") + std::strerror(errno));
  }
  const UniqueFd in(pair[0]);
  const UniqueFd out(pair[1]);
  absl::StatusOr<std::unique_ptr<DatagramSource>> source = OpenUringSource({in.get()});
  if (!source.ok()) return source.status();
  if (send(out.get(), "probe", 5, 0) != 5) return absl::UnavailableError("cannot send the probe");
  std::array<Datagram, DatagramSource::kSlots> datagrams;
  for (int i = 0; i < 100; ++i) {
    if (const size_t got = (*source)->Receive(datagrams); got > 0) {
      const bool whole = datagrams[0].size == 5 && std::memcmp(datagrams[0].data, "probe", 5) == 0;
      return whole ? absl::OkStatus() : absl::UnavailableError("the probe came back changed");
    }
    (*source)->Recycle();
    (*source)->Wait(std::chrono::milliseconds(10));
  }
  return absl::UnavailableError("the probe did not come back");
}

}  // namespace

absl::StatusOr<std::unique_ptr<DatagramSource>> OpenDatagramSource(ReceiveEngine engine,
                                                                   std::vector<int> sockets,
                                                                   DatagramSlots slots) {
  CHECK(engine != ReceiveEngine::kAuto);
  return engine == ReceiveEngine::kIoUring ? OpenUringSource(std::move(sockets))
                                           : OpenRecvmmsgSource(std::move(sockets), slots);
}

absl::StatusOr<ReceiveEngine> ChooseEngine(ReceiveEngine wanted, std::string* why) {
  if (wanted == ReceiveEngine::kRecvmmsg) {
    *why = "configured";
    return wanted;
  }
  const absl::Status probe = ProbeUring();
  if (probe.ok()) {
    *why = wanted == ReceiveEngine::kAuto ? "one receive through a ring completed" : "configured";
    return ReceiveEngine::kIoUring;
  }
  if (wanted == ReceiveEngine::kIoUring) {
    return absl::FailedPreconditionError(
        "receivers.udp.engine is io_uring, but it cannot be used here: " +
        std::string(probe.message()) + "; set engine: auto or engine: recvmmsg");
  }
  *why = "io_uring cannot be used here: " + std::string(probe.message());
  return ReceiveEngine::kRecvmmsg;
}

std::string_view ReceiveEngineName(ReceiveEngine engine) noexcept {
  switch (engine) {
    case ReceiveEngine::kAuto:
      return "auto";
    case ReceiveEngine::kIoUring:
      return "io_uring";
    case ReceiveEngine::kRecvmmsg:
      return "recvmmsg";
  }
  return "unknown";
}

}  // namespace mobula
