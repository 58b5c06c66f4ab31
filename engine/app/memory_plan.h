// What the agent may take, as a sum with one line per part, computed and checked before anything runs.
//
// Room:   cold.
// Errors: FailedPrecondition when the sum passes the container's limit, naming the settings that shrink it; not
//         with buffer.fit `shrink`.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/memory/block_pool.h"

namespace mobula {

struct MemoryPlan {
  uint64_t program = 0;       // code, libraries, heap of an idle agent
  uint64_t buffer = 0;        // open batches, batches held for the lanes, request bodies
  uint64_t slots = 0;         // where datagrams are received
  uint64_t kernel_queue = 0;  // SO_RCVBUF of all sockets: cgroup v2 charges it to the container
  uint64_t tls = 0;
  uint64_t parser = 0;
  uint64_t sampling =
      0;  // requests, answers and rules of the sampling port; without AWS it answers small texts
  uint64_t spool = 0;  // frames on their way to disk and back, and compression
  uint64_t other = 0;
  std::optional<uint64_t> limit;  // of the cgroup

  [[nodiscard]] uint64_t total() const {
    return program + buffer + slots + kernel_queue + tls + parser + sampling + spool + other;
  }
  // "10 program + 24 buffer + ... = 55 MiB of 64 MiB"
  [[nodiscard]] std::string text() const;
};

// The smallest memory limit of this process's cgroup and its parents, v1 or v2; nothing when unlimited. `root`
// stands before the paths of the kernel's files.
std::optional<uint64_t> CgroupMemoryLimit(const std::string& root = "");

// All memory of this machine.
uint64_t HostMemory();

// Lowers the kernel's queue, then the buffer, to what the limit leaves, for a program that has to start where its
// predecessor did. Says what it changed; empty: nothing had to.
std::string ShrinkToFit(Config* config, int workers, std::optional<uint64_t> limit);

// `kernel_queue` is what the sockets of all workers hold together.
absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, int workers, uint64_t kernel_queue,
                                      std::optional<uint64_t> limit);

// The buffer without a setting: 64 MiB without a limit, else two thirds of what is beside 28 MiB, but no more than
// leaves the 36 MiB that one worker, one `xray` backend and the sampling port take; from 3 to 256 MiB.
uint64_t DefaultBuffer(std::optional<uint64_t> limit);

// The least a lane can work with.
inline constexpr uint64_t kLaneShareMin = 2 * BlockPool::kBlockBytesMax;

// How the buffer is divided.
struct BufferShares {
  uint64_t pool = 0;            // the block pool
  uint64_t room = 0;            // of it, for the backends together
  uint64_t dead_letter = 0;     // quota of the dead-letter lane; 0 without one
  std::vector<uint64_t> lanes;  // quota of each backend, in order
};

// What the open batches of `workers` take of the buffer.
uint64_t OpenBytes(const Config& config, int workers, size_t routes);

// Errors: InvalidArgument when the backends' quotas and the workers' share do not fit into the buffer.
absl::StatusOr<BufferShares> DivideBuffer(const Config& config, uint64_t buffer, int workers,
                                          size_t routes);

}  // namespace mobula
