// Asks STS for the credentials of one role. Private to this folder.
//
// Room:      cold.
// Threads:   the loop's thread.
// Ownership: the callback of a call under way is dropped with the client.
// Errors:    begin with "assume role ARN: ". FailedPrecondition for a refusal, with STS's code and message;
//            Unavailable and DeadlineExceeded when there was no usable answer.
// Limits:    one call at a time: two tries of 5 s; 64 KiB of answer.
//
// Where STS says that the role may not be held that long, as it does to a role that was assumed by an assumed
// role, this client asks for one hour from then on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/aws/credentials_source.h"
#include "engine/aws/endpoint.h"
#include "engine/base/aws_role.h"
#include "engine/http/io_loop.h"

namespace mobula {

class Log;

// How STS is reached.
struct StsSettings {
  std::string region;
  AwsEndpointSettings endpoint;
  Environment environment;
  std::string user_agent;
  Log* log = nullptr;  // may be null
};

class StsClient {
 public:
  using Done = CredentialsSource::Done;
  // Gives the token of a web identity; called for each try.
  using ReadToken = std::function<absl::StatusOr<std::string>()>;

  // `credentials` sign AssumeRole; null where only AssumeRoleWithWebIdentity is called.
  static absl::StatusOr<std::unique_ptr<StsClient>> Create(
      IoLoop* loop, const StsSettings& settings, AwsRole role,
      std::shared_ptr<CredentialsProvider> credentials);
  ~StsClient();

  // `done` is called once, from the loop, never from inside these.
  void AssumeRole(Time deadline, Done done);
  // Tags, external id and source identity of the role are not for this call: the token holds such things.
  void AssumeRoleWithWebIdentity(ReadToken read_token, Time deadline, Done done);

 private:
  class Impl;
  explicit StsClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mobula
