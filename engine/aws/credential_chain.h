// The credentials that the environment and the shared files name: PlanCredentials decided anew for each fetch, and
// carried out. Private to this folder.
//
// Room:    cold.
// Errors:  begin with the source: "environment: ", "web identity: ", "profile \"x\": ", "container: ",
//          "instance role: ", or with "no credentials: " where nothing is configured.
// Limits:  those of the sources.
#pragma once

#include <memory>
#include <string>

#include "engine/aws/credentials_source.h"
#include "engine/aws/imds_client.h"
#include "engine/aws/sts_client.h"

namespace mobula {

// `profile` as in AwsIdentity.
std::unique_ptr<CredentialsSource> MakeCredentialChain(IoLoop* loop, std::string profile,
                                                       std::shared_ptr<ImdsClient> imds,
                                                       StsSettings settings);

}  // namespace mobula
