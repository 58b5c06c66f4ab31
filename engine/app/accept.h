// What a client of the admin port asks for.
//
// Room: cold.
#pragma once

#include <string_view>

namespace mobula {

// Whether an Accept header lists OpenMetrics, and not with a quality of zero (RFC 9110, section 12.5.1).
inline bool WantsOpenMetrics(std::string_view accept) {
  const size_t at = accept.find("application/openmetrics-text");
  if (at == std::string_view::npos) return false;
  const std::string_view range = accept.substr(at, accept.find(',', at) - at);
  const size_t q = range.find("q=0");
  return q == std::string_view::npos ||
         range.find_first_of("123456789", q) != std::string_view::npos;
}

}  // namespace mobula
