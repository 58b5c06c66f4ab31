// Receiving by io_uring: one multishot recvmsg per socket into a ring of provided buffers.
// DEFER_TASKRUN is required (kernel 6.1): without it every datagram interrupts a paced sleep.
// Tested by tests/unit/engine/receive/datagram_source_test.cc.
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "engine/receive/slot_arena.h"
#include "engine/receive/source_engines.h"

namespace mobula {
namespace {

constexpr unsigned kSubmissions = 64;
constexpr unsigned kCompletions = 4 * DatagramSource::kSlots;
constexpr uint16_t kBufferGroup = 0;
// What a completion belongs to: a socket's index, the wake-up eventfd, or the request that ends another.
constexpr uint64_t kWakeTag = ~0ULL;
constexpr uint64_t kCancelTag = kWakeTag - 1;
// The kernel ends a request at once, or when its present turn is over.
constexpr Duration kCancelMax = std::chrono::milliseconds(500);

// The kernel writes this header and the address in front of each payload.
constexpr size_t kNameBytes = sizeof(sockaddr_in6);
constexpr size_t kPrefixBytes = sizeof(io_uring_recvmsg_out) + kNameBytes;

std::string Reason(const char* what, int error) {
  std::string text = std::string(what) + ": " + std::strerror(error);
  if (error == EPERM) text += " (seccomp profile or kernel.io_uring_disabled)";
  if (error == EINVAL) text += " (needs kernel 6.1)";
  if (error == ENOMEM) text += " (locked-memory limit)";
  return text;
}

class UringSource final : public DatagramSource {
 public:
  UringSource(std::vector<int> sockets, UniqueFd wake, SlotArena slots)
      : sockets_(std::move(sockets)), wake_(std::move(wake)), slots_(std::move(slots)) {
    std::memset(&message_, 0, sizeof message_);
    message_.msg_namelen = kNameBytes;
    armed_.assign(sockets_.size(), false);
  }

  ~UringSource() override {
    if (ring_open_) io_uring_queue_exit(&ring_);
    std::free(buffers_);
  }

  absl::Status Open() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                   IORING_SETUP_CLAMP;
    params.cq_entries = kCompletions;
    if (const int e = io_uring_queue_init_params(kSubmissions, &ring_, &params); e < 0) {
      return absl::UnavailableError(Reason("io_uring_setup", -e));
    }
    ring_open_ = true;
    (void)io_uring_register_ring_fd(&ring_);  // saves a file lookup per call; not needed

    if (posix_memalign(reinterpret_cast<void**>(&buffers_), BlockBytes(),
                       kSlots * sizeof(io_uring_buf)) != 0) {
      return absl::ResourceExhaustedError("no memory for the buffer ring");
    }
    std::memset(buffers_, 0, kSlots * sizeof(io_uring_buf));
    io_uring_buf_reg registration{};
    registration.ring_addr = std::bit_cast<uint64_t>(buffers_);
    registration.ring_entries = kSlots;
    registration.bgid = kBufferGroup;
    if (const int e = io_uring_register_buf_ring(&ring_, &registration, 0); e < 0) {
      return absl::UnavailableError(Reason("registering buffers", -e));
    }
    io_uring_buf_ring_init(buffers_);
    for (size_t i = 0; i < kSlots; ++i) GiveBack(static_cast<uint16_t>(i));
    Publish();
    ArmWake();
    ArmSockets();
    if (const int e = io_uring_submit(&ring_); e < 0) {
      return absl::UnavailableError(Reason("io_uring_enter", -e));
    }
    return absl::OkStatus();
  }

  void Wait(Duration timeout) noexcept override {
    __kernel_timespec limit{};
    limit.tv_sec = timeout / std::chrono::seconds(1);
    limit.tv_nsec = (timeout % std::chrono::seconds(1)).count();
    io_uring_cqe* cqe = nullptr;
    (void)io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &limit, nullptr);
  }

  size_t Receive(std::span<Datagram> out) noexcept override {
    DCHECK(taken_ == 0);
    const unsigned room = static_cast<unsigned>(std::min(out.size(), kSlots));
    std::array<io_uring_cqe*, kSlots> cqes;
    for (;;) {
      unsigned ready = io_uring_peek_batch_cqe(&ring_, cqes.data(), room);
      if (ready == 0) {
        // Runs the deferred work: this is where datagrams are copied into the slots. One run yields
        // after about 33 datagrams, so the caller asks until nothing comes.
        if (!released_) ArmSockets();
        (void)io_uring_submit_and_get_events(&ring_);
        ready = io_uring_peek_batch_cqe(&ring_, cqes.data(), room);
        if (ready == 0 && !AwaitRelease()) return 0;
      }
      size_t got = 0;
      for (unsigned i = 0; i < ready; ++i) got += Take(*cqes[i], &out[got]) ? 1 : 0;
      io_uring_cq_advance(&ring_, ready);
      if (got > 0) return got;
      // Only news that a request ended, as when several sockets ran out of slots together: there may
      // be datagrams behind it.
      Recycle();
    }
  }

  void Recycle() noexcept override {
    for (size_t i = 0; i < taken_; ++i) GiveBack(taken_slots_[i]);
    taken_ = 0;
    Publish();
  }

  void Release() noexcept override {
    released_ = true;
    release_until_ = std::chrono::steady_clock::now() + kCancelMax;
    for (size_t i = 0; i < sockets_.size(); ++i) {
      if (!armed_[i]) continue;
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) {
        (void)io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
      }
      if (sqe == nullptr) return;
      io_uring_prep_cancel64(sqe, i, 0);
      sqe->user_data = kCancelTag;
    }
  }

  void Wake() noexcept override {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }

 private:
  static size_t BlockBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

  // While a request still holds a socket: waits a moment for its end, and answers whether to look again.
  bool AwaitRelease() noexcept {
    if (!released_ || std::find(armed_.begin(), armed_.end(), true) == armed_.end()) return false;
    if (std::chrono::steady_clock::now() >= release_until_) return false;
    Wait(std::chrono::milliseconds(1));
    return true;
  }

  // Turns one completion into a datagram; false for anything else.
  bool Take(const io_uring_cqe& cqe, Datagram* out) noexcept {
    const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
    if (cqe.user_data == kWakeTag) {
      uint64_t count = 0;
      (void)!read(wake_.get(), &count, sizeof count);
      if (!more) ArmWake();
      return false;
    }
    if (cqe.user_data == kCancelTag) return false;
    if (!more) armed_[cqe.user_data] = false;  // ENOBUFS under load, or an ICMP error: armed again
    if ((cqe.flags & IORING_CQE_F_BUFFER) == 0) return false;
    const uint16_t slot = static_cast<uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
    taken_slots_[taken_++] = slot;
    if (cqe.res < static_cast<int>(kPrefixBytes)) return false;
    const char* const base = slots_.slot(slot);
    io_uring_recvmsg_out header;
    std::memcpy(&header, base, sizeof header);
    const uint32_t held = static_cast<uint32_t>(cqe.res) - static_cast<uint32_t>(kPrefixBytes);
    *out = {base + kPrefixBytes, held, (header.flags & MSG_TRUNC) != 0,
            header.namelen > 0
                ? reinterpret_cast<const sockaddr*>(base + sizeof(io_uring_recvmsg_out))
                : nullptr};
    return true;
  }

  void GiveBack(uint16_t slot) noexcept {
    io_uring_buf_ring_add(buffers_, slots_.slot(slot), static_cast<unsigned>(slots_.slot_bytes()),
                          slot, io_uring_buf_ring_mask(kSlots), given_++);
  }
  void Publish() noexcept {
    io_uring_buf_ring_advance(buffers_, given_);
    given_ = 0;
  }

  void ArmSockets() noexcept {
    for (size_t i = 0; i < sockets_.size(); ++i) {
      if (armed_[i]) continue;
      io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) return;  // the next Receive submits and tries again
      io_uring_prep_recvmsg_multishot(sqe, sockets_[i], &message_, 0);
      sqe->flags |= IOSQE_BUFFER_SELECT;
      sqe->buf_group = kBufferGroup;
      sqe->user_data = i;
      armed_[i] = true;
    }
  }
  void ArmWake() noexcept {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) return;
    io_uring_prep_poll_multishot(sqe, wake_.get(), POLLIN);
    sqe->user_data = kWakeTag;
  }

  const std::vector<int> sockets_;
  const UniqueFd wake_;
  const SlotArena slots_;
  io_uring ring_{};
  bool ring_open_ = false;
  io_uring_buf_ring* buffers_ = nullptr;
  msghdr message_;
  std::vector<bool> armed_;
  bool released_ = false;
  Time release_until_{};
  std::array<uint16_t, kSlots> taken_slots_{};
  size_t taken_ = 0;
  int given_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DatagramSource>> OpenUringSource(std::vector<int> sockets) {
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) {
    return absl::InternalError(std::string("cannot make an eventfd: ") + std::strerror(errno));
  }
  absl::StatusOr<SlotArena> slots =
      SlotArena::Create(DatagramSource::kSlots, kPrefixBytes + DatagramSource::kSlotBytes);
  if (!slots.ok()) return slots.status();
  auto source =
      std::make_unique<UringSource>(std::move(sockets), std::move(wake), *std::move(slots));
  if (const absl::Status status = source->Open(); !status.ok()) return status;
  return source;
}

}  // namespace mobula
