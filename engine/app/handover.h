// How this agent takes the UDP port from the one that has it, and gives it to the next.
//
// Taking over: the sockets are bound beside the other's and get nothing. When all is up, Begin asks the other to end. It
// stops its arrivals, so that datagrams come here, takes what it still holds, closes its sockets; then others find us.
// An agent in another container cannot be asked: whoever ends it begins the same.
//
// Room:      cold.
// Lifecycle: made when the sockets are bound; Begin, Step..., LetGo.
// Threads:   the control thread.
// Errors:    told in the log. One that does not end keeps the port, and gets what comes, until it does.
#pragma once

#include <optional>

#include "engine/base/log.h"
#include "engine/base/time.h"
#include "engine/receive/port_holder.h"
#include "engine/receive/udp_sockets.h"

namespace mobula {

class Handover {
 public:
  Handover(UdpSockets* sockets, Log* log) : sockets_(sockets), log_(log) {}
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  // Another agent still has the port.
  [[nodiscard]] bool taking_over() const { return sockets_->predecessor.has_value(); }

  // Everything that a datagram needs is up.
  void Begin(Time now);
  // Many times a second while taking over; else about once, and when there is something to read from fd(), which may be
  // -1.
  void Step(Time now);
  [[nodiscard]] int fd() const { return holder_ ? holder_->waiting_fd() : -1; }
  // The sockets are closed: the next agent has the port.
  void LetGo();

 private:
  void Ask(Time now);
  // Lets others find this agent; false when another one has the port after all.
  bool Own(Time now);

  UdpSockets* const sockets_;
  Log* const log_;
  std::optional<PortHolder> holder_;
  bool begun_ = false;
  Time warn_at_ = kTimeNever;
};

}  // namespace mobula
