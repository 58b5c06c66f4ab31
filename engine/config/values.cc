// Strict readers of single values: nothing is guessed, rubbish behind a value is refused.
// Tested by tests/unit/engine/config/values_test.cc.
#include "engine/config/values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <limits>
#include <utility>

namespace mobula {
namespace {

using Unit = std::pair<std::string_view, uint64_t>;

constexpr std::array<Unit, 11> kSizeUnits = {{{"TiB", 1ULL << 40},
                                              {"GiB", 1ULL << 30},
                                              {"MiB", 1ULL << 20},
                                              {"KiB", 1ULL << 10},
                                              {"TB", 1'000'000'000'000ULL},
                                              {"GB", 1'000'000'000ULL},
                                              {"MB", 1'000'000ULL},
                                              {"KB", 1'000ULL},
                                              {"kB", 1'000ULL},
                                              {"B", 1},
                                              {"", 1}}};
constexpr std::array<Unit, 4> kDurationUnits = {{{"h", 3'600'000'000'000ULL},
                                                 {"m", 60'000'000'000ULL},
                                                 {"s", 1'000'000'000ULL},
                                                 {"ms", 1'000'000ULL}}};

template <size_t N>
std::optional<uint64_t> ParseWithUnit(std::string_view text, const std::array<Unit, N>& units,
                                      uint64_t max) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseNumber(text.substr(0, digits));
  const std::string_view unit = text.substr(digits);
  const auto found =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.first == unit; });
  if (!number || found == units.end() || *number > max / found->second) return std::nullopt;
  return *number * found->second;
}

bool IsHostName(std::string_view host) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
  return !host.empty() && host.size() <= 253 && host.find_first_not_of(kLetters) == host.npos;
}

bool IsHost(std::string_view host) {
  const std::string text(host);
  in_addr v4{};
  if (host.find_first_not_of("0123456789.") == host.npos) {
    return inet_pton(AF_INET, text.c_str(), &v4) == 1;
  }
  return IsHostName(host);
}

// The text between the brackets; a zone (%eth0) may follow the address.
bool IsIpv6(std::string_view host) {
  const size_t zone = host.find('%');
  if (zone != host.npos && !IsHostName(host.substr(zone + 1))) return false;
  in6_addr v6{};
  return inet_pton(AF_INET6, std::string(host.substr(0, zone)).c_str(), &v6) == 1;
}

bool IsPort(std::string_view text, uint64_t min) {
  const auto port = ParseNumber(text);
  return port && *port >= min && *port <= 65535;
}

}  // namespace

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || text.empty()) return std::nullopt;
  return value;
}

std::optional<uint64_t> ParseSize(std::string_view text) {
  return ParseWithUnit(text, kSizeUnits, std::numeric_limits<uint64_t>::max());
}

std::string FormatSize(uint64_t bytes) {
  for (const auto& [unit, scale] : kSizeUnits) {
    if (unit.size() == 3 && bytes > 0 && bytes % scale == 0) {
      return std::to_string(bytes / scale).append(unit);
    }
  }
  return std::to_string(bytes);
}

std::optional<Duration> ParseDuration(std::string_view text) {
  constexpr auto kMax = static_cast<uint64_t>(Duration::max().count());
  const auto count = ParseWithUnit(text, kDurationUnits, kMax);
  if (!count) return std::nullopt;
  return Duration(static_cast<int64_t>(*count));
}

std::string FormatDuration(Duration duration) {
  const auto count = static_cast<uint64_t>(duration.count());
  if (count == 0) return "0s";
  for (const auto& [unit, scale] : kDurationUnits) {
    if (count % scale == 0) return std::to_string(count / scale).append(unit);
  }
  return std::to_string(count) + "ns";
}

bool IsListenAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == text.npos || !IsPort(text.substr(colon + 1), 0)) return false;
  const std::string_view host = text.substr(0, colon);
  if (host.empty()) return true;
  if (host.front() == '[') return host.back() == ']' && IsIpv6(host.substr(1, host.size() - 2));
  return IsHost(host);
}

bool IsHttpUrl(std::string_view text) {
  const size_t scheme = text.find("://");
  if (scheme == text.npos) return false;
  if (text.substr(0, scheme) != "http" && text.substr(0, scheme) != "https") return false;
  const bool odd = std::any_of(text.begin(), text.end(), [](char c) {
    return c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '@' || c == '"' || c == '\\';
  });
  if (odd) return false;
  text.remove_prefix(scheme + 3);
  std::string_view authority = text.substr(0, text.find('/'));
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.find(':', bracket == authority.npos ? 0 : bracket);
  if (colon != authority.npos) {
    if (!IsPort(authority.substr(colon + 1), 1)) return false;
    authority = authority.substr(0, colon);
  }
  if (authority.empty()) return false;
  if (authority.front() == '[') {
    return authority.back() == ']' && IsIpv6(authority.substr(1, authority.size() - 2));
  }
  return IsHost(authority);
}

}  // namespace mobula
