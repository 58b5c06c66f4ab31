// Credentials for a role by a token that somebody keeps fresh in a file: IRSA, and other OIDC providers. Private to
// this folder.
//
// Room:   cold.
// Errors: FailedPrecondition for a token file that is missing or empty, and for what STS refuses; else as
//         StsClient.
// Limits: 20,000 bytes of token. The file is read for every try.
#pragma once

#include <memory>
#include <string>

#include "engine/aws/credentials_source.h"
#include "engine/aws/sts_client.h"

namespace mobula {

std::unique_ptr<CredentialsSource> MakeWebIdentitySource(IoLoop* loop, std::string token_file,
                                                         AwsRole role, StsSettings settings);

}  // namespace mobula
