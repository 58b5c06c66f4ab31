// What all AWS backends of one process share: the loop that fetches credentials, the cache of identities, what
// the machine's metadata says.
//
// Room:      cold.
// Lifecycle: made without I/O; the first request to anybody goes out with the first call of Credentials or
//            FindRegion, so that sockets can be bound before. Destroyed after its loop has stopped.
// Threads:   the methods may be called by any thread but the loop's; fetching runs on `loop`.
// Ownership: providers may outlive the context; they then answer what they have.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/aws/credentials.h"
#include "engine/aws/endpoint.h"
#include "engine/base/aws_role.h"
#include "engine/base/time.h"
#include "engine/http/io_loop.h"

namespace mobula {

class Log;

// As whom to act.
struct AwsIdentity {
  std::string profile;  // empty: the whole chain, with AWS_PROFILE or "default" in its place
  std::vector<AwsRole>
      roles;           // assumed one after the other, the last is the one that acts; empty: none
  std::string region;  // of STS
  AwsEndpointSettings sts;  // how STS is reached

  friend bool operator==(const AwsIdentity&, const AwsIdentity&) = default;
};

// What the health page, the metrics and `check --live` say of an identity.
struct AwsIdentityState {
  // The role's ARN, `profile NAME`, or "default"; behind it what tells it from another of the same name:
  // " in REGION", " (session NAME)" or " #2".
  std::string name;
  std::string source;  // of the present credentials; empty: there are none
  std::optional<std::chrono::system_clock::time_point> expiry;
  uint64_t renewals = 0;  // fetches that worked, the first included
  uint64_t failures = 0;  // that did not
  absl::Status error;     // of the last fetch; OK when it worked
};

// The region to talk to.
struct FoundRegion {
  std::string name;
  // For people: "configuration", "AWS_REGION", "ECS metadata file", "ECS task metadata", "EC2 metadata",
  // "AWS_DEFAULT_REGION" or "profile NAME".
  std::string source;
};

// Who and where this process is, as far as metadata says; an empty member is not known.
struct HostFacts {
  std::string hostname;
  std::string instance_id;
};

// What to do where there are no credentials or no region: the ends of the messages that say so.
extern const char kCredentialsHelp[];
extern const char kRegionHelp[];

class AwsContext {
 public:
  struct Options {
    Environment environment;
    // Whether EC2 and ECS metadata may be asked for region, host name and instance. Says nothing of
    // credentials, as in the X-Ray daemon's local mode.
    bool metadata = true;
    // Whether messages name the settings of the X-Ray daemon.
    bool of_daemon = false;
    std::string user_agent;
  };

  AwsContext(IoLoop* loop, Log* log, Options options);
  ~AwsContext();
  AwsContext(const AwsContext&) = delete;
  AwsContext& operator=(const AwsContext&) = delete;

  // The provider of an identity; equal identities share one, and begin to be fetched with the first call. The
  // sources, in this order; the first that is configured is the one, and its errors are final, so that a
  // broken source is never replaced by somebody else's identity:
  //   environment    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (not with `profile`)
  //   web identity   AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME (not with `profile`)
  //   shared files   `profile`, AWS_PROFILE, AWS_DEFAULT_PROFILE or "default": keys, role_arn with
  //                  source_profile or credential_source, web_identity_token_file, credential_process, SSO
  //   container      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI
  //   EC2            the instance's role
  std::shared_ptr<CredentialsProvider> Credentials(const AwsIdentity& identity);

  // `configured`, AWS_REGION, then (where metadata may be asked) the ECS metadata file, ECS task metadata v4,
  // the EC2 instance identity document, and AWS_DEFAULT_REGION or the profile's region; without metadata only
  // the latter. Blocks while metadata is asked, at most until `deadline`; the answer is kept. Metadata that is slow is
  // given up to 20 s, unless AWS_DEFAULT_REGION or the profile has a region.
  // Errors: FailedPrecondition naming every place looked at and what it said; InvalidArgument.
  absl::StatusOr<FoundRegion> FindRegion(const std::string& configured, const std::string& profile,
                                         Time deadline);

  // AWS_HOSTNAME and AWS_INSTANCE_ID, else what metadata says. `done` is called on the loop, once.
  void FindHostFacts(std::function<void(HostFacts)> done);

  // Soon: identities that nobody acts as any more are forgotten and no longer renewed.
  void Tidy();

  [[nodiscard]] std::vector<AwsIdentityState> identities() const;
  [[nodiscard]] const Environment& environment() const;
  [[nodiscard]] const std::string& user_agent() const;
  [[nodiscard]] Log* log() const;
  [[nodiscard]] IoLoop* loop() const;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace mobula
