// The URL of a proxy and the list of exceptions. Tested by tests/unit/engine/http/forward_proxy_test.cc.
#include "engine/http/forward_proxy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "engine/base/ip_address.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

using Environment = std::function<std::optional<std::string>(std::string_view)>;

template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// --- NO_PROXY
// -----------------------------------------------------------------------------------------

// One entry of NO_PROXY, in lower case and without blanks.
bool Excepts(std::string_view entry, const HttpUrl& target,
             const std::optional<IpAddress>& address) {
  if (entry == "*") return true;
  if (const auto network = ParseIpNetwork(entry)) return address && network->Contains(*address);

  std::string_view host = entry;
  // An IPv6 address without brackets has many colons, and no port.
  const size_t colon = entry.rfind(':');
  if (colon != std::string_view::npos &&
      (entry.find(':') == colon || (colon > 0 && entry[colon - 1] == ']'))) {
    host = entry.substr(0, colon);
    const std::string_view port = entry.substr(colon + 1);
    if (!port.empty() && ParseNumber<uint16_t>(port) != target.port) return false;
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) return false;
  if (const auto one = ParseIpAddress(host)) return one == address;
  if (address) return false;

  if (host.starts_with("*.")) host.remove_prefix(1);
  const std::string_view name = target.host;
  if (host.starts_with('.')) return name.ends_with(host);
  return name == host || (name.ends_with(host) && name[name.size() - host.size() - 1] == '.');
}

bool IsExcepted(std::string_view no_proxy, const HttpUrl& target) {
  const std::optional<IpAddress> address = ParseIpAddress(target.host);
  const std::string list =
      absl::AsciiStrToLower(absl::string_view(no_proxy.data(), no_proxy.size()));
  std::string_view rest = list;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of(", \t"), rest.size());
    if (end > 0 && Excepts(rest.substr(0, end), target, address)) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

// --- The URL
// ------------------------------------------------------------------------------------------

absl::StatusOr<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    uint8_t byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (error != std::errc() || digits.size() != 2 || end != digits.data() + 2) {
      return absl::InvalidArgumentError(
          "a \"%\" in the user name or password is not followed by two hex digits");
    }
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

absl::StatusOr<HttpForwardProxy> ParseProxy(std::string_view text) {
  HttpForwardProxy proxy;
  std::string plain(text);
  const size_t scheme = text.find("://");
  const size_t start = scheme == std::string_view::npos ? 0 : scheme + 3;
  const std::string_view authority = text.substr(start, text.find_first_of("/?#", start) - start);
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    const std::string_view userinfo = authority.substr(0, at);
    const size_t colon = std::min(userinfo.find(':'), userinfo.size());
    ASSIGN_OR_RETURN(std::string credentials, PercentDecode(userinfo.substr(0, colon)));
    ASSIGN_OR_RETURN(const std::string password,
                     PercentDecode(userinfo.substr(std::min(colon + 1, userinfo.size()))));
    credentials += ":" + password;
    if (!userinfo.empty()) proxy.authorization = "Basic " + absl::Base64Escape(credentials);
    plain.erase(start, at + 1);
  }
  if (plain.find('@') != std::string::npos) {
    return absl::InvalidArgumentError(
        "the user name or password has characters that must be percent-encoded");
  }
  ASSIGN_OR_RETURN(proxy.url, ParseHttpUrl(plain));
  return proxy;
}

// The first of `names` that has a value.
struct Variable {
  std::string_view name;
  std::string value;
};

std::optional<Variable> FindVariable(const Environment& environment,
                                     std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    std::optional<std::string> value = environment(name);
    if (value && !value->empty()) return Variable{name, *std::move(value)};
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::optional<HttpForwardProxy>> FindForwardProxy(const std::string& configured,
                                                                 const HttpUrl& target,
                                                                 const Environment& environment) {
  std::optional<Variable> found;
  if (!configured.empty()) {
    found = Variable{"the proxy's address", configured};
  } else if (target.tls) {
    found = FindVariable(environment, {"HTTPS_PROXY", "https_proxy"});
  } else {
    found = FindVariable(environment, {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"});
  }
  if (!found) return std::nullopt;

  if (configured.empty() && found->value.find("://") == std::string::npos) {
    found->value.insert(0, "http://");
  }
  const auto no_proxy = FindVariable(environment, {"NO_PROXY", "no_proxy"});
  if (no_proxy && IsExcepted(no_proxy->value, target)) return std::nullopt;
  absl::StatusOr<HttpForwardProxy> proxy = ParseProxy(found->value);
  if (!proxy.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {}", found->name, std::string(proxy.status().message())));
  }
  if (configured.empty()) proxy->variable = found->name;
  return std::optional<HttpForwardProxy>(*std::move(proxy));
}

}  // namespace mobula
