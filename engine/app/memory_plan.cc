// Tested by tests/unit/engine/app/memory_plan_test.cc.
#include "engine/app/memory_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "engine/receive/datagram_source.h"
#include "engine/receive/source_gate.h"
#include "engine/receive/unix_socket.h"
#include "engine/sampling/sampling_proxy.h"

namespace mobula {
namespace {

constexpr uint64_t kMiB = 1ULL << 20;
// A v1 group without a limit shows a number near 2^63.
constexpr uint64_t kUnlimited = 1ULL << 60;
// Beside its open batches a worker must always be able to close one, even with every lane at its quota.
constexpr uint64_t kWorkerReserve = 2 * BlockPool::kBlockBytesMax;
// Contexts of zstd for blocks of 256 KiB (0.57 and 0.1 MiB at level 1), a group of frames to be written, a frame read
// before and after, and the batch made of it.
constexpr uint64_t kSpoolLaneBytes = 2 * kMiB;

std::optional<uint64_t> ReadLimit(const std::string& path) {
  std::ifstream in(path);
  std::string text;
  if (!(in >> text) || text == "max") return std::nullopt;
  const uint64_t value = std::strtoull(text.c_str(), nullptr, 10);
  if (value == 0 || value >= kUnlimited) return std::nullopt;
  return value;
}

// The smallest limit on the way from `group` up to the root of one hierarchy.
void LowerTo(const std::string& mount, std::string group, const std::string& file,
             std::optional<uint64_t>* limit) {
  for (;;) {
    if (const std::optional<uint64_t> here =
            ReadLimit(fmt::format("{}{}/{}", mount, group, file))) {
      *limit = std::min(limit->value_or(*here), *here);
    }
    if (group.empty()) return;
    const size_t slash = group.rfind('/');
    group = slash == std::string::npos ? "" : group.substr(0, slash);
  }
}

std::string MiB(uint64_t bytes) { return fmt::format("{}", (bytes + kMiB / 2) / kMiB); }

}  // namespace

uint64_t HostMemory() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

std::optional<uint64_t> CgroupMemoryLimit(const std::string& root) {
  std::optional<uint64_t> limit;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers.empty()) {
      LowerTo(root + "/sys/fs/cgroup", group, "memory.max", &limit);
    } else if (controllers == "memory") {
      LowerTo(root + "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", &limit);
    }
  }
  return limit;
}

uint64_t DefaultBuffer(std::optional<uint64_t> limit) {
  if (!limit.has_value()) return 64 * kMiB;
  const auto beside = [limit](uint64_t bytes) { return *limit > bytes ? *limit - bytes : 0; };
  const uint64_t buffer = std::min(beside(28 * kMiB) * 2 / 3, beside(36 * kMiB));
  return std::clamp(buffer / kMiB * kMiB, 3 * kMiB, 256 * kMiB);
}

std::string MemoryPlan::text() const {
  std::string sum = fmt::format(
      "{} program + {} buffer + {} slots + {} kernel queue + {} TLS + {} parser + {} sampling + "
      "{}{} other = {} MiB",
      MiB(program), MiB(buffer), MiB(slots), MiB(kernel_queue), MiB(tls), MiB(parser),
      MiB(sampling), spool == 0 ? "" : MiB(spool) + " spool + ", MiB(other), MiB(total()));
  sum += limit.has_value() ? fmt::format(" of {} MiB", MiB(*limit)) : ", no limit set";
  return sum;
}

absl::StatusOr<MemoryPlan> PlanMemory(const Config& config, int workers, uint64_t kernel_queue,
                                      std::optional<uint64_t> limit) {
  const uint64_t n = static_cast<uint64_t>(workers);
  MemoryPlan plan;
  plan.program = 10 * kMiB;
  plan.buffer = config.buffer.memory != 0 ? config.buffer.memory : DefaultBuffer(limit);
  plan.slots = n * DatagramSource::kSlots * DatagramSource::kSlotBytes;
  if (!config.unix_socket.path.empty()) {
    plan.slots += kUnixSlots.count * kUnixSlots.bytes;
    plan.parser += kMiB;
  }
  plan.kernel_queue = kernel_queue;
  for (const BackendConfig& backend : config.backends) {
    if (std::holds_alternative<XrayBackendConfig>(backend.settings)) plan.tls += 2 * kMiB;
  }
  if (config.admin.address != "off" && !config.admin.tls.cert.empty()) plan.tls += 4 * kMiB;
  plan.parser += n * kMiB;
  if (config.proxy.address != "off" && SamplingBackend(config) != nullptr) {
    plan.sampling = SamplingProxy::kBytesMax;
  }
  if (!config.buffer.spool.path.empty()) plan.spool = config.backends.size() * kSpoolLaneBytes;
  // The queues keep room for a handle, and the queue's own word beside it, per page and worker.
  plan.other = 2 * kMiB + n * (plan.buffer / BlockPool::kPageBytes) * 2 * sizeof(void*);
  if (config.udp.source_rate > 0) plan.other += n * SourceGate::kTableBytes;
  plan.limit = limit;
  if (config.buffer.fit == BufferFit::kRefuse && limit.has_value() && plan.total() > *limit) {
    return absl::FailedPreconditionError(
        fmt::format("the memory plan does not fit into the container: {}; lower buffer.memory, "
                    "receivers.udp.receive_buffer or receivers.udp.workers, or raise the limit",
                    plan.text()));
  }
  return plan;
}

std::string ShrinkToFit(Config* config, int workers, std::optional<uint64_t> limit) {
  if (config->buffer.fit == BufferFit::kRefuse || !limit.has_value()) return "";
  const uint64_t n = static_cast<uint64_t>(workers);
  const auto excess = [&] {
    const uint64_t total =
        PlanMemory(*config, workers, n * config->udp.receive_buffer, limit).value().total();
    return total > *limit ? total - *limit : 0;
  };
  if (excess() == 0) return "";
  const auto lower = [](uint64_t value, uint64_t by, uint64_t floor) {
    return value <= floor ? value : std::max(floor, value - std::min(value, by));
  };
  config->udp.receive_buffer = lower(config->udp.receive_buffer, (excess() + n - 1) / n, kMiB);
  if (config->buffer.memory == 0) config->buffer.memory = DefaultBuffer(limit);
  const uint64_t over = (excess() + kMiB - 1) / kMiB * kMiB;
  config->buffer.memory = lower(config->buffer.memory, over, 3 * kMiB);
  return fmt::format(
      "the container's limit of {} MiB leaves room for a buffer of {} MiB and a kernel queue of {} "
      "MiB; raise the limit for more",
      MiB(*limit), MiB(config->buffer.memory), MiB(n * config->udp.receive_buffer));
}

uint64_t OpenBytes(const Config& config, int workers, size_t routes) {
  const size_t dead_letters = config.dead_letter.path.empty() ? 0 : 1;
  return static_cast<uint64_t>(workers) * (routes + dead_letters) * BlockPool::kBlockBytesMax;
}

absl::StatusOr<BufferShares> DivideBuffer(const Config& config, uint64_t buffer, int workers,
                                          size_t routes) {
  const bool dead_letters = !config.dead_letter.path.empty();
  const uint64_t n = static_cast<uint64_t>(workers);
  const uint64_t open = OpenBytes(config, workers, routes);
  const uint64_t reserve = n * kWorkerReserve;
  BufferShares shares;
  shares.dead_letter =
      dead_letters ? std::clamp<uint64_t>(buffer / 16, BlockPool::kBlockBytesMax, 4 * kMiB) : 0;
  uint64_t configured = 0;
  uint64_t equal_parts = 0;
  for (const BackendConfig& backend : config.backends) {
    configured += backend.quota;
    equal_parts += backend.quota == 0 ? 1 : 0;
  }
  const uint64_t taken = open + reserve + shares.dead_letter + configured;
  if (buffer < taken + equal_parts * kLaneShareMin) {
    return absl::InvalidArgumentError(fmt::format(
        "buffer.memory: {} KiB are too little: {} KiB for open batches, {} KiB for closing them, "
        "{} KiB of "
        "configured quotas and at least {} KiB for each other backend make {} KiB",
        buffer / 1024, open / 1024, (reserve + shares.dead_letter) / 1024, configured / 1024,
        kLaneShareMin / 1024, (taken + equal_parts * kLaneShareMin) / 1024));
  }
  shares.pool = buffer - open;
  shares.room = buffer - open - reserve - shares.dead_letter;
  const uint64_t share = (buffer - taken) / std::max<uint64_t>(equal_parts, 1);
  for (const BackendConfig& backend : config.backends) {
    shares.lanes.push_back(backend.quota != 0 ? backend.quota : share);
  }
  return shares;
}

}  // namespace mobula
