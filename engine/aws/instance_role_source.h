// Credentials of the EC2 instance's role.
//
// Room:   cold.
// Errors: FailedPrecondition when the instance has no role or metadata is switched off; else as ImdsClient.
#pragma once

#include <memory>

#include "engine/aws/credentials_source.h"
#include "engine/aws/imds_client.h"

namespace mobula {

std::unique_ptr<CredentialsSource> MakeInstanceRoleSource(std::shared_ptr<ImdsClient> imds);

}  // namespace mobula
