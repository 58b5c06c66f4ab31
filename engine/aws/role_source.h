// Credentials for a role, assumed with the credentials of another identity. Private to this folder.
//
// Room:   cold.
// Errors: begin with "assume role ARN: ": the other identity's, or StsClient's.
// Limits: StsClient's; credentials of the other identity that are on their way are waited for.
#pragma once

#include <memory>

#include "engine/aws/credentials_source.h"
#include "engine/aws/sts_client.h"

namespace mobula {

std::unique_ptr<CredentialsSource> MakeRoleSource(IoLoop* loop,
                                                  std::shared_ptr<CredentialsProvider> base,
                                                  AwsRole role, StsSettings settings);

}  // namespace mobula
