// The date of HTTP headers, in the one form senders may generate: "Sun, 06 Nov 1994 08:49:37 GMT".
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace mobula {

// Nothing when `text` is not such a date, or none from 1970 to 2200.
std::optional<std::chrono::system_clock::time_point> ParseHttpDate(std::string_view text) noexcept;

}  // namespace mobula
