// Which forward proxy to reach a service through: the configured one, or that of HTTPS_PROXY, HTTP_PROXY and
// NO_PROXY.
//
// Room:   cold.
// Errors: InvalidArgument naming the setting or the variable; no message repeats a user name or a password.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/http/http_client.h"
#include "engine/http/http_url.h"

namespace mobula {

// `configured` is a URL with its scheme; user and password may stand in it, percent-encoded:
// http://user:password@host:port. Empty: for https targets HTTPS_PROXY or https_proxy counts; for http ones
// HTTP_PROXY or http_proxy and, without them, those of https as well, because the X-Ray daemon knows only that
// one. A variable may leave "http://" out. Every variable is looked up in upper case first; an empty one counts
// as unset.
//
// NO_PROXY or no_proxy excepts targets from either, in a list with commas: "*"; a host or a domain, which stands
// for all names below it too (".domain" and "*.domain": for those only); an address; a network as
// "10.0.0.0/8"; each of them but the network and the "*" with ":port" where only that port is meant. Names are
// not resolved. Nothing else is excepted, loopback neither: the X-Ray daemon's rule.
absl::StatusOr<std::optional<HttpForwardProxy>> FindForwardProxy(
    const std::string& configured, const HttpUrl& target,
    const std::function<std::optional<std::string>(std::string_view)>& environment);

}  // namespace mobula
