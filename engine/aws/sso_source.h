// Credentials for a role of IAM Identity Center, by the token that `aws sso login` left in ~/.aws/sso/cache.
//
// Room:   cold.
// Errors: FailedPrecondition when nobody has logged in, or not lately: the message says which command helps.
//         Unavailable, DeadlineExceeded: the portal gave no usable answer.
// Limits: 1 MiB of token file; two tries of 5 s; 64 KiB of answer. The token is not renewed here.
#pragma once

#include <memory>
#include <string>

#include "engine/aws/credentials.h"
#include "engine/aws/credentials_source.h"
#include "engine/http/io_loop.h"

namespace mobula {

struct SsoSettings {
  std::string session_name;  // of sso_session; empty: the older form, whose token goes by start_url
  std::string start_url;
  std::string region;  // of the portal
  std::string account_id;
  std::string role_name;
  std::string profile;  // for messages and for the portal's endpoint; may be empty

  friend bool operator==(const SsoSettings&, const SsoSettings&) = default;
};

std::unique_ptr<CredentialsSource> MakeSsoSource(IoLoop* loop, SsoSettings settings,
                                                 Environment environment);

}  // namespace mobula
