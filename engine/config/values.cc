// Strict readers of single values: nothing is guessed, rubbish behind a value is refused.
// Tested by tests/unit/engine/config/values_test.cc.
#include "engine/config/values.h"

#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "engine/base/ip_address.h"
#include "engine/segment/utf8.h"

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
  const bool dotted = host.find_first_not_of("0123456789.") == host.npos;
  return dotted ? ParseIpAddress(host).has_value() : IsHostName(host);
}

// The text between the brackets; a zone (%eth0) may follow the address.
bool IsIpv6(std::string_view host) {
  const size_t zone = host.find('%');
  if (zone != host.npos && !IsHostName(host.substr(zone + 1))) return false;
  const std::string_view address = host.substr(0, zone);
  return address.find(':') != address.npos && ParseIpAddress(address).has_value();
}

// Whether each "%" is followed by two hex digits.
bool IsPercentEncoded(std::string_view text) {
  for (size_t at = text.find('%'); at != text.npos; at = text.find('%', at + 1)) {
    const std::string_view digits = text.substr(at + 1, 2);
    if (digits.size() < 2 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos) {
      return false;
    }
  }
  return true;
}

bool IsPort(std::string_view text, uint64_t min) {
  const auto port = ParseNumber(text);
  return port && *port >= min && *port <= 65535;
}

constexpr std::string_view kWordLetters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

bool IsWordLetter(char c) { return kWordLetters.find(c) != kWordLetters.npos; }

// All of `text` is letters of \w and of `more`.
bool IsOf(std::string_view text, std::string_view more) {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return IsWordLetter(c) || more.find(c) != more.npos; });
}

bool IsControl(char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }

// `text` with every ${reference} made letters, so that positions stay and nothing inside is taken for a mark.
std::string WithoutReferences(std::string_view text) {
  std::string out(text);
  for (size_t begin = out.find("${"); begin != out.npos; begin = out.find("${", begin)) {
    const size_t end = std::min(out.find('}', begin), out.size() - 1);
    std::fill(out.begin() + static_cast<ptrdiff_t>(begin),
              out.begin() + static_cast<ptrdiff_t>(end) + 1, 'x');
  }
  return out;
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
    return c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '@' || c == '"' || c == '\\' ||
           c == '<' || c == '>';
  });
  if (odd) return false;
  text.remove_prefix(scheme + 3);
  std::string_view authority = text.substr(0, text.find('/'));
  // A zone means nothing to the far side.
  if (authority.find('%') != authority.npos) return false;
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

bool IsProxyUrl(std::string_view text) {
  const size_t scheme = text.find("://");
  if (scheme == text.npos) return false;
  std::string_view host = text.substr(scheme + 3);
  const size_t at = host.rfind('@');
  if (at != host.npos) {
    const bool plain =
        std::none_of(host.begin(), host.begin() + static_cast<ptrdiff_t>(at), [](char c) {
          return c <= ' ' || c >= 0x7f || c == '/' || c == '?' || c == '#' || c == '@' ||
                 c == '"' || c == '\\';
        });
    if (!plain || host.front() == ':' || at == 0) return false;
    if (!IsPercentEncoded(host.substr(0, at))) return false;
    host.remove_prefix(at + 1);
  }
  const size_t slash = host.find('/');
  if (slash != host.npos && slash + 1 != host.size()) return false;
  return IsHttpUrl(std::string(text.substr(0, scheme)).append("://").append(host));
}

std::string HidePassword(std::string_view url) {
  const std::string shape = WithoutReferences(url);
  const size_t scheme = shape.find("://");
  const size_t begin = scheme == shape.npos ? 0 : scheme + 3;
  const size_t at = shape.rfind('@');
  const size_t colon = shape.find(':', begin);
  if (at == shape.npos || colon == shape.npos || colon >= at) return std::string(url);
  const std::string_view password = url.substr(colon + 1, at - colon - 1);
  if (password.substr(0, 2) == "${" && password.find('}') == password.size() - 1)
    return std::string(url);
  return std::string(url.substr(0, colon)).append(":***").append(url.substr(at));
}

std::optional<int> ParseMode(std::string_view text) {
  if (text.size() != 4 || text.front() != '0') return std::nullopt;
  int mode = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return mode;
}

bool IsUnixUser(std::string_view text) {
  const auto is_name = [](std::string_view name) {
    const auto fits = [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
    };
    return !name.empty() && name.size() <= 64 && name.front() != '-' && name.front() != '.' &&
           std::all_of(name.begin(), name.end(), fits);
  };
  const size_t colon = text.find(':');
  return is_name(text.substr(0, colon)) && (colon == text.npos || is_name(text.substr(colon + 1)));
}

bool IsSocketPath(std::string_view text) {
  return !text.empty() && text.size() <= sizeof(sockaddr_un::sun_path) - 1 &&
         std::none_of(text.begin(), text.end(), IsControl);
}

bool IsBearerToken(std::string_view text) {
  const size_t end = text.find_last_not_of('=');
  return text.size() >= 16 && text.size() <= 1024 && end != text.npos &&
         IsOf(text.substr(0, end + 1), "-.~+/");
}

bool IsRoleArn(std::string_view text) {
  constexpr std::string_view kIam = ":iam::";
  constexpr std::string_view kRole = ":role/";
  constexpr size_t kAccountDigits = 12;
  const size_t iam = text.find(kIam);
  if (text.substr(0, 4) != "arn:" || iam == text.npos || iam < 5 || text.size() > 2048)
    return false;
  const std::string_view partition = text.substr(4, iam - 4);
  const std::string_view account = text.substr(iam + kIam.size(), kAccountDigits);
  const std::string_view rest =
      text.substr(std::min(iam + kIam.size() + kAccountDigits, text.size()));
  if (partition.front() < 'a' || partition.front() > 'z' ||
      partition.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != partition.npos) {
    return false;
  }
  return account.size() == kAccountDigits &&
         account.find_first_not_of("0123456789") == account.npos &&
         rest.substr(0, kRole.size()) == kRole && rest.size() > kRole.size() &&
         rest.back() != '/' && IsOf(rest.substr(kRole.size()), "+=,.@/-");
}

bool IsExternalId(std::string_view text) {
  return text.size() >= 2 && text.size() <= 1224 && IsOf(text, "+=,.@:/-");
}

bool IsSessionName(std::string_view text) {
  return text.size() >= 2 && text.size() <= 64 && IsOf(text, "+=,.@-");
}

bool IsTagText(std::string_view text, size_t characters_min, size_t characters_max) {
  // Letters of other scripts are left to STS to judge.
  const auto allowed = [](char c) {
    return IsWordLetter(c) || static_cast<unsigned char>(c) >= 0x80 ||
           std::string_view(" .:/=+-@").find(c) != std::string_view::npos;
  };
  const auto characters = static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
  return IsValidUtf8(text) && std::all_of(text.begin(), text.end(), allowed) &&
         characters >= characters_min && characters <= characters_max;
}

}  // namespace mobula
