// Credentials as endpoints and programs hand them out: members of a JSON object. Private to this folder.
//
// Room:   cold.
// Errors: FailedPrecondition saying which member is missing or wrong, never what it holds.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"

namespace mobula {

struct JsonValue;

// How a source calls the token; the other members have the same names everywhere but in SSO.
struct CredentialsMembers {
  std::string_view access_key_id = "AccessKeyId";
  std::string_view secret_access_key = "SecretAccessKey";
  std::string_view session_token = "Token";
  // A string in ISO 8601, or a number of milliseconds since 1970.
  std::string_view expiry = "Expiration";
};

// `what` begins the messages: "the container endpoint's answer". Without a time of expiry the credentials do not
// expire.
absl::StatusOr<Credentials> ReadCredentials(const JsonValue& object, std::string_view what,
                                            const CredentialsMembers& members);

// The status with its message begun by the source: "container: …".
absl::Status OfSource(std::string_view source, const absl::Status& status);

}  // namespace mobula
