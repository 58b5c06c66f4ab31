// Which source of credentials the environment and the shared files name, in the order of AWS's Go SDK: the decision,
// without any call. Private to this folder.
//
// Room:   cold.
// Errors: NotFound when nothing is configured and EC2 may not be asked; FailedPrecondition for what is configured
//         but cannot be: half a key pair, a profile that is not there, roles in a circle. The message begins with
//         the source and says what to do.
// Limits: 16 profiles that refer to each other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/aws/sso_source.h"
#include "engine/base/aws_role.h"

namespace mobula {

struct CredentialsPlan {
  enum class Kind : uint8_t { kKeys, kWebIdentity, kProcess, kSso, kContainer, kInstance };

  Kind kind = Kind::kKeys;
  Credentials keys;        // of kKeys, with their source
  std::string token_file;  // of kWebIdentity
  AwsRole web_identity;    // of kWebIdentity
  std::string command;     // of kProcess
  SsoSettings sso;         // of kSso
  std::string profile;     // that named the source; empty: none did
  // Assumed one after the other with the above, each because of a profile.
  std::vector<AwsRole> roles;
  // The profile that was asked for, which the last role is of; empty: the source is no profile's.
  std::string asked_profile;
  // What was looked at in vain before; not empty where EC2 is asked only because nothing else was configured.
  std::string looked_at;

  friend bool operator==(const CredentialsPlan&, const CredentialsPlan&) = default;
};

// `profile` as in AwsIdentity.
absl::StatusOr<CredentialsPlan> PlanCredentials(const std::string& profile,
                                                const Environment& environment);

// For roles whose session nobody named: "mobula-" and the host's name.
std::string DefaultSessionName();

}  // namespace mobula
