// Tested by tests/unit/engine/app/admin_access_test.cc and tests/e2e/admin_test.py.
#include "engine/app/admin_access.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "engine/base/ip_address.h"

namespace mobula {
namespace {

HttpReply Refusal(int status, std::string body) {
  HttpReply reply;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

// Whether `host`, a Host header, is what somebody on this machine types: an address, or a name that no resolver
// outside can make this machine's. A page of elsewhere whose name was made to resolve to 127.0.0.1 has that name here.
bool IsOwnHost(std::string_view host) {
  const bool brackets = !host.empty() && host.front() == '[';
  const size_t end = brackets ? host.find(']') : std::min(host.find(':'), host.size());
  if (end == host.npos) return false;
  const std::string_view port = host.substr(end + (brackets ? 1 : 0));
  if (!port.empty() &&
      (port.front() != ':' || port.find_first_not_of("0123456789", 1) != port.npos)) {
    return false;
  }
  host = brackets ? host.substr(1, end - 1) : host.substr(0, end);
  if (ParseIpAddress(host)) return true;
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  const absl::string_view name(host.data(), host.size());
  return !brackets && (absl::EqualsIgnoreCase(name, "localhost") ||
                       absl::EndsWithIgnoreCase(name, ".localhost"));
}

}  // namespace

AdminAccess::AdminAccess(const AdminConfig& config, bool loopback)
    : loopback_(loopback), certificates_(!config.tls.client_ca.empty()) {
  if (!config.token.empty()) token_.emplace(config.token);
}

std::optional<HttpReply> AdminAccess::Refuse(const HttpServerRequest& request) const {
  if (request.verified) return std::nullopt;
  if (token_.has_value()) {
    const BearerToken::Verdict verdict = token_->Judge(request.Header("authorization"));
    if (verdict == BearerToken::Verdict::kRight) return std::nullopt;
    const bool wrong = verdict == BearerToken::Verdict::kWrong;
    HttpReply reply = Refusal(
        401, wrong ? "this is not the token\n" : "send the token: Authorization: Bearer TOKEN\n");
    reply.headers = {{"WWW-Authenticate", wrong ? "Bearer realm=\"mobula\", error=\"invalid_token\""
                                                : "Bearer realm=\"mobula\""}};
    return reply;
  }
  if (certificates_) {
    return Refusal(403, "show a certificate that admin.tls.client_ca accepts\n");
  }
  if (!loopback_) {
    return Refusal(
        403,
        "shown here only to those with a token or a client certificate: set admin.token or "
        "admin.tls.client_ca, or admin.address to 127.0.0.1:PORT\n");
  }
  const bool own =
      std::all_of(request.headers.begin(), request.headers.end(), [](const auto& header) {
        const absl::string_view name(header.first.data(), header.first.size());
        return !absl::EqualsIgnoreCase(name, "host") || IsOwnHost(header.second);
      });
  if (own) return std::nullopt;
  return Refusal(403, "ask with the address: http://127.0.0.1:PORT\n");
}

}  // namespace mobula
