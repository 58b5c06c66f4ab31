// What the agent's threads may ask of the kernel: a list of system calls for each role, kept by seccomp. What is not on
// the list fails with ENOSYS, as on a kernel that does not know it: a C library that begins to use a new call falls back,
// and no node's agent dies of an update.
//
// Room:      cold; afterwards the kernel's work, some nanoseconds a call.
// Lifecycle: Start once, when everything is set up that only a start needs; then Enter in each thread.
// Threads:   Start takes in all that there are, and they hand it on to those they start. Enter narrows the calling
//            thread, and those that it starts from then on.
// Errors:    FailedPrecondition where the kernel or the container's runtime does not let us; the threads then go on without.
// Limits:    nothing can be allowed again. A program that is run keeps its thread's list.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace mobula {

enum class ThreadRole : uint8_t {
  kReceiver,  // hot: reads sockets that are open already; opens nothing, runs nothing, makes no memory executable
  kLane,     // files and connections: deliveries, admin pages
  kControl,  // and whoever may have to start a credential_process
};

class SyscallFilter {
 public:
  // What else than the lists say is done with: kRefuse it, or kLog it to the kernel's audit log and let it pass.
  enum class Action : uint8_t { kRefuse, kLog };
  struct Options {
    Action action = Action::kRefuse;
    bool io_uring = false;  // the receivers receive by it
    bool programs = false;  // some profile has a credential_process
    bool takeover = false;  // another agent is told to end
  };

  explicit SyscallFilter(Options options) : options_(options) {}

  // All that any role may.
  absl::Status Start();
  // REQUIRES: Start returned OK.
  absl::Status Enter(ThreadRole role) const;

 private:
  const Options options_;
};

// The calls on a role's list by name, but for those allowed with certain arguments only: for tests.
std::vector<std::string_view> SyscallsOf(ThreadRole role, const SyscallFilter::Options& options);

}  // namespace mobula
