// Tested by tests/unit/engine/http/http_url_test.cc.
#include "engine/http/http_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "engine/base/ip_address.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

absl::Status Invalid(std::string_view text, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("\"{}\": {}", text, what));
}

bool IsIpv6(std::string_view host) {
  return host.find(':') != host.npos && ParseIpAddress(host).has_value();
}

bool IsHostName(std::string_view host) {
  return !host.empty() && host.size() <= 253 &&
         std::all_of(host.begin(), host.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_';
         });
}

// "fe80::1%eth0": an address that means something on this machine only.
bool IsIpv6WithZone(std::string_view host) {
  const size_t zone = host.find('%');
  return IsIpv6(host.substr(0, zone)) && (zone == host.npos || IsHostName(host.substr(zone + 1)));
}

// Splits `text` into host and port; `port` stays empty when there is no colon. `is_v6` says what may stand between
// brackets.
absl::Status Split(std::string_view text, bool (*is_v6)(std::string_view), std::string* host,
                   std::string_view* port) {
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return Invalid(text, "a \"]\" is missing");
    *host = text.substr(1, end - 1);
    if (!is_v6(*host)) return Invalid(text, "no IPv6 address between the brackets");
    text.remove_prefix(end + 1);
    if (text.empty()) return absl::OkStatus();
    if (!text.starts_with(':')) return Invalid(text, "expected \":port\" after \"]\"");
    *port = text.substr(1);
    return port->empty() ? Invalid(text, "the port is missing") : absl::OkStatus();
  }
  const size_t colon = text.find(':');
  *host = text.substr(0, colon);
  if (colon == std::string_view::npos) return absl::OkStatus();
  if (text.find(':', colon + 1) != std::string_view::npos) {
    return Invalid(text, "an IPv6 address needs brackets: [address]:port");
  }
  *port = text.substr(colon + 1);
  return port->empty() ? Invalid(text, "the port is missing") : absl::OkStatus();
}

absl::StatusOr<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Invalid(text, "expected a port from 0 to 65535");
  }
  return port;
}

}  // namespace

std::string HttpUrl::Authority() const {
  if (port != (tls ? 443 : 80)) return AuthorityWithPort();
  return IsIpv6(host) ? fmt::format("[{}]", host) : host;
}

std::string HttpUrl::AuthorityWithPort() const {
  const bool v6 = IsIpv6(host);
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view text) {
  // Before anything else: no message below may repeat a password.
  if (text.find('@') != std::string_view::npos) {
    return absl::InvalidArgumentError("a URL with a user name or password (\"@\") is not accepted");
  }
  HttpUrl url;
  std::string_view rest = text;
  const size_t scheme = rest.find("://");
  if (scheme == std::string_view::npos) return Invalid(text, "expected http:// or https://");
  const std::string name = absl::AsciiStrToLower(absl::string_view(rest.data(), scheme));
  if (name != "http" && name != "https") return Invalid(text, "expected http:// or https://");
  url.tls = name == "https";
  rest.remove_prefix(scheme + 3);

  const size_t slash = rest.find_first_of("/?#");
  std::string_view path = slash == std::string_view::npos ? "" : rest.substr(slash);
  if (path.find_first_of("?#") != std::string_view::npos) {
    return Invalid(text, "a query or fragment has no meaning here");
  }
  const bool printable = std::all_of(path.begin(), path.end(), [](char c) {
    return c > ' ' && c < '\x7f' && c != '"' && c != '\\' && c != '<' && c != '>';
  });
  if (!printable) return Invalid(text, "the path has characters that must be percent-encoded");
  while (path.ends_with('/')) path.remove_suffix(1);
  url.path = path;

  std::string_view port;
  RETURN_IF_ERROR(Split(rest.substr(0, slash), IsIpv6, &url.host, &port));
  absl::AsciiStrToLower(&url.host);
  if (!IsIpv6(url.host) && !IsHostName(url.host)) return Invalid(text, "no valid host name");
  url.port = url.tls ? 443 : 80;
  if (!port.empty()) {
    ASSIGN_OR_RETURN(url.port, ParsePort(port));
    if (url.port == 0) return Invalid(text, "expected a port from 1 to 65535");
  }
  return url;
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  HostPort result;
  std::string_view port;
  RETURN_IF_ERROR(Split(text, IsIpv6WithZone, &result.host, &port));
  if (port.empty()) return Invalid(text, "expected host:port");
  if (!result.host.empty() && !IsIpv6WithZone(result.host) && !IsHostName(result.host)) {
    return Invalid(text, "no valid host name or address");
  }
  ASSIGN_OR_RETURN(result.port, ParsePort(port));
  return result;
}

}  // namespace mobula
