// Credentials from the container's own endpoint: ECS tasks, EKS Pod Identity and what speaks like them.
//
//   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI   a path on http://169.254.170.2; wins over
//   AWS_CONTAINER_CREDENTIALS_FULL_URI       a whole URL: https anywhere, http only to loopback,
//                                            169.254.170.2, 169.254.170.23 and fd00:ec2::23
//   AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE   read again for every call; wins over
//   AWS_CONTAINER_AUTHORIZATION_TOKEN        sent as they are in Authorization
//
// Room:   cold.
// Limits: three tries of 2 s; 64 KiB of answer, 64 KiB of token file. No redirect is followed, no forward proxy
//         used: the token is for that endpoint only.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "engine/aws/credentials.h"
#include "engine/aws/credentials_source.h"
#include "engine/http/http_url.h"
#include "engine/http/io_loop.h"

namespace mobula {

// Whether the environment names a container endpoint.
bool ContainerConfigured(const Environment& environment);

struct ContainerEndpoint {
  HttpUrl url;         // without a path
  std::string target;  // a secret in some places: not for messages
};
// REQUIRES: ContainerConfigured. Errors: FailedPrecondition for a URL that is none, or is not allowed.
absl::StatusOr<ContainerEndpoint> FindContainerEndpoint(const Environment& environment);

// What the environment says is judged at each Fetch.
std::unique_ptr<CredentialsSource> MakeContainerSource(IoLoop* loop, Environment environment);

}  // namespace mobula
