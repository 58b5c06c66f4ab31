// Times as AWS writes them in credentials: ISO 8601 in UTC or with an offset, with or without fractions.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace mobula {

// "2026-01-01T00:00:00Z", "…00.123Z", "…+02:00", "…UTC"; fractions are cut off. Nothing when it is no such time.
std::optional<std::chrono::system_clock::time_point> ParseIsoTime(std::string_view text) noexcept;

}  // namespace mobula
