// Framing splits a datagram into its header line and its body, by the X-Ray daemon's rule.
//
// Room:      hot. No allocation.
// Threads:   any; it keeps no state.
// Ownership: the views of a Frame point into the datagram.
// Errors:    foreign bytes end in a RejectReason, never in a crash.
#pragma once

#include <string_view>

#include "engine/segment/reject_reason.h"

namespace mobula {

struct Frame {
  RejectReason reject = RejectReason::kNone;
  std::string_view
      header;  // without the LF; without any LF the whole datagram. For the log when refused
  std::string_view body;  // everything after the first LF, untouched
};

class Framing {
 public:
  // Splits a datagram at its first LF and judges the header: a JSON object whose `format` equals
  // "json" in any case and whose `version` is the integer 1; names without regard to case, unknown
  // members allowed, the last usable value of a repeated name wins, wrong types are passed over, as
  // Go's decoder does.
  static Frame Split(std::string_view datagram) noexcept;
};

}  // namespace mobula
