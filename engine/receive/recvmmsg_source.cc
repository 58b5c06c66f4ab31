// Receiving by recvmmsg: the engine of every node that refuses io_uring.
// Tested by tests/unit/engine/receive/datagram_source_test.cc.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"
#include "engine/receive/slot_arena.h"
#include "engine/receive/source_engines.h"

namespace mobula {
namespace {

class RecvmmsgSource final : public DatagramSource {
 public:
  RecvmmsgSource(std::vector<int> sockets, UniqueFd wake, SlotArena slots, size_t count)
      : sockets_(std::move(sockets)),
        wake_(std::move(wake)),
        slots_(std::move(slots)),
        messages_(count),
        iovecs_(count),
        names_(count) {
    for (size_t i = 0; i < count; ++i) {
      iovecs_[i] = {slots_.slot(i), slots_.slot_bytes()};
      msghdr& header = messages_[i].msg_hdr;
      std::memset(&header, 0, sizeof header);
      header.msg_name = &names_[i];
      header.msg_iov = &iovecs_[i];
      header.msg_iovlen = 1;
    }
    for (const int fd : sockets_) polled_.push_back({fd, POLLIN, 0});
    polled_.push_back({wake_.get(), POLLIN, 0});
  }

  void Wait(Duration timeout) noexcept override {
    const timespec limit{timeout / std::chrono::seconds(1),
                         (timeout % std::chrono::seconds(1)).count()};
    if (ppoll(polled_.data(), polled_.size(), &limit, nullptr) > 0 &&
        (polled_.back().revents & POLLIN) != 0) {
      uint64_t count = 0;
      (void)!read(wake_.get(), &count, sizeof count);
    }
  }

  size_t Receive(std::span<Datagram> out) noexcept override {
    if (released_) return 0;
    const unsigned room = static_cast<unsigned>(std::min(out.size(), messages_.size()));
    for (size_t tried = 0; tried < sockets_.size(); ++tried) {
      for (mmsghdr& m : messages_) m.msg_hdr.msg_namelen = sizeof names_[0];
      const int got =
          recvmmsg(sockets_[next_], messages_.data(), room, MSG_DONTWAIT | MSG_TRUNC, nullptr);
      if (got <= 0) {
        // Dry, or an ICMP error somebody sent us: the next socket.
        next_ = (next_ + 1) % sockets_.size();
        continue;
      }
      for (int i = 0; i < got; ++i) {
        const mmsghdr& m = messages_[static_cast<size_t>(i)];
        out[static_cast<size_t>(i)] = {
            slots_.slot(static_cast<size_t>(i)), m.msg_len, (m.msg_hdr.msg_flags & MSG_TRUNC) != 0,
            m.msg_hdr.msg_namelen > 0 ? static_cast<const sockaddr*>(m.msg_hdr.msg_name) : nullptr};
      }
      if (static_cast<unsigned>(got) < room) next_ = (next_ + 1) % sockets_.size();
      return static_cast<size_t>(got);
    }
    return 0;
  }

  void Recycle() noexcept override {}

  void Release() noexcept override { released_ = true; }

  void Wake() noexcept override {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof one);
  }

 private:
  const std::vector<int> sockets_;
  const UniqueFd wake_;
  const SlotArena slots_;
  // One call fills them all. More than 64 gain nothing: the call's share is lost in the noise by then, and
  // fewer slots stay in the cache.
  std::vector<mmsghdr> messages_;
  std::vector<iovec> iovecs_;
  std::vector<sockaddr_in6> names_;  // of a Unix sender only the family
  std::vector<pollfd> polled_;
  size_t next_ = 0;  // the socket to ask first
  bool released_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DatagramSource>> OpenRecvmmsgSource(std::vector<int> sockets,
                                                                   DatagramSlots slots) {
  DCHECK(slots.count > 0 && slots.count <= DatagramSource::kSlots);
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) {
    return absl::InternalError(std::string("cannot make an eventfd: ") + std::strerror(errno));
  }
  absl::StatusOr<SlotArena> arena = SlotArena::Create(slots.count, slots.bytes);
  if (!arena.ok()) return arena.status();
  return std::unique_ptr<DatagramSource>(
      new RecvmmsgSource(std::move(sockets), std::move(wake), *std::move(arena), slots.count));
}

}  // namespace mobula
