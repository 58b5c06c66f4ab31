// Who may see a page of the admin endpoint that is not for everybody: who shows the token or an accepted client
// certificate where one of them is configured, else who is on this machine.
//
// Room:    cold.
// Threads: immutable; any.
// Errors:  a refusal says what is missing, and nothing of what was shown.
#pragma once

#include <optional>

#include "engine/config/config.h"
#include "engine/http/bearer_token.h"
#include "engine/http/http_server.h"

namespace mobula {

class AdminAccess {
 public:
  // `loopback`: the endpoint listens on a loopback address.
  AdminAccess(const AdminConfig& config, bool loopback);

  // Nothing: the request may be answered.
  [[nodiscard]] std::optional<HttpReply> Refuse(const HttpServerRequest& request) const;

 private:
  const bool loopback_;
  const bool certificates_;
  std::optional<BearerToken> token_;
};

}  // namespace mobula
