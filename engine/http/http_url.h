// The address of an HTTP service: http(s)://host[:port][/base], and the host:port form of
// listeners.
//
// Room:   cold.
// Errors: InvalidArgument naming the text and what is wrong with it. Userinfo, query and fragment
//         are refused: none of them has a meaning here, and a password must not end up in a log.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mobula {

struct HttpUrl {
  bool tls = false;
  std::string host;  // lower case; an IPv6 literal without its brackets
  uint16_t port = 0;
  std::string path;  // empty, or "/base" without a slash at its end

  // What belongs into the Host header: brackets around IPv6, the port unless it is the scheme's
  // own.
  [[nodiscard]] std::string Authority() const;
  // What CONNECT names: as above, but always with the port.
  [[nodiscard]] std::string AuthorityWithPort() const;
};

absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view text);

struct HostPort {
  std::string host;  // empty for ":port"
  uint16_t port = 0;
};

// "host:port", "[v6]:port", "[v6%zone]:port" or ":port".
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);

}  // namespace mobula
