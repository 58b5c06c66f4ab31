// What the sampling port has done since the start.
//
// Room:    cold.
// Threads: counted on the port's loop, read by any.
#pragma once

#include "engine/metrics/counter.h"

namespace mobula {

// Each request of a client counts once.
struct SamplingProxyStats {
  SharedCounter forwarded;  // answered with what the far side said, for rules perhaps to others too
  SharedCounter cached;     // rules answered from the cache
  SharedCounter stale;      // rules answered with older ones, because the far side gave none
  SharedCounter local;      // answered with the Default rule, without any far side
  SharedCounter refused;    // 403 and other faults of the client
  SharedCounter failed;     // 502, 503, 504
};

}  // namespace mobula
