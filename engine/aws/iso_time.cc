// Tested by tests/unit/engine/aws/credentials_document_test.cc.
#include "engine/aws/iso_time.h"

#include <algorithm>

namespace mobula {
namespace {

// Takes `digits` digits off the front; nothing when there are fewer.
std::optional<int> TakeNumber(std::string_view* text, size_t digits) noexcept {
  if (text->size() < digits) return std::nullopt;
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    const char c = (*text)[i];
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  text->remove_prefix(digits);
  return value;
}

bool Take(std::string_view* text, std::string_view expected) noexcept {
  if (!text->starts_with(expected)) return false;
  text->remove_prefix(expected.size());
  return true;
}

// What stands behind the seconds, as minutes east of Greenwich.
std::optional<int> TakeOffset(std::string_view text) noexcept {
  if (text == "Z" || text == "z" || text == "UTC") return 0;
  const int sign = text.starts_with('-') ? -1 : 1;
  if (!Take(&text, "+") && !Take(&text, "-")) return std::nullopt;
  const auto hours = TakeNumber(&text, 2);
  static_cast<void>(Take(&text, ":"));
  const auto minutes = TakeNumber(&text, 2);
  if (!hours || !minutes || !text.empty() || *hours > 23 || *minutes > 59) return std::nullopt;
  return sign * (*hours * 60 + *minutes);
}

}  // namespace

std::optional<std::chrono::system_clock::time_point> ParseIsoTime(std::string_view text) noexcept {
  const auto year = TakeNumber(&text, 4);
  if (!year || !Take(&text, "-")) return std::nullopt;
  const auto month = TakeNumber(&text, 2);
  if (!month || !Take(&text, "-")) return std::nullopt;
  const auto day = TakeNumber(&text, 2);
  if (!day || (!Take(&text, "T") && !Take(&text, "t") && !Take(&text, " "))) return std::nullopt;
  const auto hour = TakeNumber(&text, 2);
  if (!hour || !Take(&text, ":")) return std::nullopt;
  const auto minute = TakeNumber(&text, 2);
  if (!minute || !Take(&text, ":")) return std::nullopt;
  const auto second = TakeNumber(&text, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  if (Take(&text, ".")) {
    const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
  }
  const auto offset = TakeOffset(text);
  // The years a system_clock of nanoseconds can hold, with room to spare.
  if (!offset || *year < 1970 || *year > 2200) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(*hour) +
         std::chrono::minutes(*minute - *offset) + std::chrono::seconds(*second);
}

}  // namespace mobula
