// What the sampling port has done since the start.
//
// Room:    cold.
// Threads: counted on the port's loop, read by any.
#pragma once

#include "engine/metrics/counter.h"

namespace mobula {

struct SamplingProxyStats {
  SharedCounter forwarded;  // requests passed on to the far side
  SharedCounter cached;     // rules answered without the far side's answer
  SharedCounter stale;      // of these, with older ones because it gave none
  SharedCounter local;      // answered with the Default rule, without any far side
  SharedCounter refused;    // 403 and other faults of the client
  SharedCounter failed;     // 502, 503, 504
};

}  // namespace mobula
