// The agent's metrics in the two text formats that scrapers ask for.
//
// Room:    cold.
// Threads: any; reads counters that others move.
#pragma once

#include <string>
#include <string_view>

#include "engine/app/agent.h"

namespace mobula {

struct MetricsPage {
  std::string content_type;
  std::string body;
};

// `accept` is the request's Accept header: OpenMetrics 1.0 when it is asked for, else Prometheus text 0.0.4.
MetricsPage RenderMetrics(const Agent& agent, std::string_view accept);

// Resident memory and CPU seconds of this process, from /proc/self.
struct ProcessUsage {
  uint64_t resident_bytes = 0;
  double cpu_seconds = 0;
};
ProcessUsage ReadProcessUsage();

}  // namespace mobula
