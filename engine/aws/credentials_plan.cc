// The order of the sources, and what profiles mean. Tested by tests/unit/engine/aws/credentials_plan_test.cc.
#include "engine/aws/credentials_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "engine/aws/aws_context.h"
#include "engine/aws/container_source.h"
#include "engine/aws/flag_text.h"
#include "engine/aws/shared_profile.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

using Kind = CredentialsPlan::Kind;

constexpr size_t kProfilesMax = 16;

// Keys of the environment; without a key id where neither is set.
absl::StatusOr<Credentials> KeysOfEnvironment(const Environment& environment) {
  const auto either = [&](std::string_view name, std::string_view old) {
    std::optional<std::string> value = environment(name);
    return (value ? value : environment(old)).value_or("");
  };
  Credentials keys;
  keys.access_key_id = either("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY");
  keys.secret_access_key = either("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY");
  keys.session_token = environment("AWS_SESSION_TOKEN").value_or("");
  keys.source = "environment";
  const bool id = !keys.access_key_id.empty();
  if (id == !keys.secret_access_key.empty()) return keys;
  return absl::FailedPreconditionError(
      fmt::format("environment: {} is set but {} is not: set both, or neither",
                  id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                  id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID"));
}

// Follows profiles that refer to each other.
class ProfilePlanner {
 public:
  ProfilePlanner(const Environment& environment, SharedProfile::Paths paths)
      : environment_(environment), paths_(std::move(paths)) {}

  // Where was looked, and what was not understood there.
  std::string files() const {
    const auto name = [](const std::string& path, const char* standard) {
      return path.empty() ? standard : path.c_str();
    };
    return fmt::format("{} or {}{}", name(paths_.credentials, "~/.aws/credentials"),
                       name(paths_.config, "~/.aws/config"),
                       odd_line_.empty()
                           ? ""
                           : fmt::format(" ({} is neither a [section] nor a setting)", odd_line_));
  }

  // Whether the profile says anything of credentials; fails for one that is not there, if it has to be because
  // `named_by` says its name.
  absl::StatusOr<bool> HasCredentials(const std::string& name, const std::string& named_by) {
    absl::StatusOr<SharedProfile> found = Load(name);
    if (!found.ok()) return found.status();
    if (!found->exists() && !named_by.empty()) return Missing(name, named_by);
    constexpr std::array<std::string_view, 9> kKeys = {
        "aws_access_key_id",       "aws_secret_access_key", "role_arn",
        "source_profile",          "credential_source",     "credential_process",
        "web_identity_token_file", "sso_session",           "sso_start_url"};
    return std::any_of(kKeys.begin(), kKeys.end(),
                       [&](std::string_view key) { return !found->Get(key).empty(); });
  }

  // REQUIRES: of a plan from an empty list of visited ones.
  absl::StatusOr<CredentialsPlan> Plan(const std::string& name, const std::string& named_by) {
    for (const std::string& visited : visited_) {
      if (visited == name) return Circle(name);
    }
    if (visited_.size() >= kProfilesMax)
      return Error(name, "too many profiles refer to each other");
    visited_.push_back(name);
    ASSIGN_OR_RETURN(const SharedProfile profile, Load(name));
    if (!profile.exists()) return Missing(name, named_by);
    RETURN_IF_ERROR(CheckSources(name, profile));

    CredentialsPlan plan;
    const std::string source_profile = profile.Get("source_profile");
    const std::string credential_source = profile.Get("credential_source");
    const bool role = !profile.Get("role_arn").empty();
    if (!source_profile.empty() && source_profile != name) {
      ASSIGN_OR_RETURN(plan,
                       Plan(source_profile, fmt::format("source_profile of profile \"{}\"", name)));
    } else if (!credential_source.empty()) {
      ASSIGN_OR_RETURN(plan, PlanCredentialSource(name, credential_source));
    } else {
      ASSIGN_OR_RETURN(plan, PlanOwn(name, profile));
    }
    if (role && plan.kind == Kind::kWebIdentity && plan.profile == name) return plan;
    if (role) {
      ASSIGN_OR_RETURN(AwsRole assumed, ReadRole(name, profile));
      plan.roles.push_back(std::move(assumed));
    }
    return plan;
  }

 private:
  static absl::Status Error(const std::string& name, const std::string& what) {
    return absl::FailedPreconditionError(fmt::format("profile \"{}\": {}", name, what));
  }

  absl::Status Missing(const std::string& name, const std::string& named_by) const {
    return Error(name,
                 fmt::format("there is no such profile in {}; {} names it", files(), named_by));
  }

  absl::Status Circle(const std::string& name) const {
    std::string path;
    for (const std::string& visited : visited_) path += fmt::format("\"{}\" to ", visited);
    return Error(visited_.front(),
                 fmt::format("source_profile leads in a circle: {}\"{}\"", path, name));
  }

  absl::StatusOr<SharedProfile> Load(const std::string& name) {
    absl::StatusOr<SharedProfile> found = SharedProfile::Load(paths_, name);
    if (!found.ok()) return Error(name, std::string(found.status().message()));
    odd_line_ = found->odd_line();
    return found;
  }

  // Settings that contradict each other, or need another.
  static absl::Status CheckSources(const std::string& name, const SharedProfile& profile) {
    std::string_view first;
    for (const std::string_view key :
         {"source_profile", "credential_source", "web_identity_token_file", "credential_process"}) {
      if (profile.Get(key).empty()) continue;
      if (!first.empty()) {
        return Error(name, fmt::format("has both {} and {}: only one may be there", first, key));
      }
      first = key;
    }
    const bool role = !profile.Get("role_arn").empty();
    if (!role && !first.empty() && first != "credential_process") {
      return Error(name, fmt::format("{} needs role_arn", first));
    }
    if (role && !profile.Get("mfa_serial").empty()) {
      return Error(name,
                   "mfa_serial: there is nobody here to ask for a code; let a role be "
                   "assumed without MFA, or use credential_process");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CredentialsPlan> PlanCredentialSource(const std::string& name,
                                                       const std::string& from) const {
    CredentialsPlan plan;
    plan.profile = name;
    if (absl::EqualsIgnoreCase(from, "Environment")) {
      absl::StatusOr<Credentials> keys = KeysOfEnvironment(environment_);
      if (!keys.ok()) return Error(name, std::string(keys.status().message()));
      if (keys->access_key_id.empty()) {
        return Error(name,
                     "credential_source is Environment, but AWS_ACCESS_KEY_ID and "
                     "AWS_SECRET_ACCESS_KEY are not set");
      }
      plan.keys = *std::move(keys);
      return plan;
    }
    if (absl::EqualsIgnoreCase(from, "EcsContainer")) {
      if (!ContainerConfigured(environment_)) {
        return Error(name,
                     "credential_source is EcsContainer, but neither "
                     "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set");
      }
      plan.kind = Kind::kContainer;
      return plan;
    }
    if (absl::EqualsIgnoreCase(from, "Ec2InstanceMetadata")) {
      plan.kind = Kind::kInstance;
      return plan;
    }
    return Error(name,
                 "credential_source must be Environment, EcsContainer or Ec2InstanceMetadata");
  }

  // What the profile has without looking at others.
  absl::StatusOr<CredentialsPlan> PlanOwn(const std::string& name,
                                          const SharedProfile& profile) const {
    CredentialsPlan plan;
    plan.profile = name;
    plan.keys.access_key_id = profile.Get("aws_access_key_id");
    plan.keys.secret_access_key = profile.Get("aws_secret_access_key");
    plan.keys.session_token = profile.Get("aws_session_token");
    const bool id = !plan.keys.access_key_id.empty();
    if (id != !plan.keys.secret_access_key.empty()) {
      return Error(
          name, fmt::format("has {} but not {}", id ? "aws_access_key_id" : "aws_secret_access_key",
                            id ? "aws_secret_access_key" : "aws_access_key_id"));
    }
    if (id) {
      plan.keys.source = fmt::format("profile \"{}\"", name);
      return plan;
    }
    plan.keys = {};
    if (std::string file = profile.Get("web_identity_token_file"); !file.empty()) {
      plan.kind = Kind::kWebIdentity;
      plan.token_file = std::move(file);
      ASSIGN_OR_RETURN(plan.web_identity, ReadRole(name, profile));
      return plan;
    }
    if (!profile.Get("sso_session").empty() || !profile.Get("sso_start_url").empty()) {
      plan.kind = Kind::kSso;
      ASSIGN_OR_RETURN(plan.sso, ReadSso(name, profile));
      return plan;
    }
    if (std::string command = profile.Get("credential_process"); !command.empty()) {
      plan.kind = Kind::kProcess;
      plan.command = std::move(command);
      return plan;
    }
    if (profile.Get("source_profile") == name) {
      return Error(name, "names itself as source_profile, but has no keys");
    }
    if (!profile.Get("role_arn").empty()) {
      return Error(name,
                   "role_arn needs source_profile, credential_source or web_identity_token_file");
    }
    return Error(name, fmt::format("has no credentials in {}", files()));
  }

  absl::StatusOr<SsoSettings> ReadSso(const std::string& name, const SharedProfile& profile) const {
    SsoSettings sso;
    sso.profile = name;
    sso.session_name = profile.Get("sso_session");
    sso.account_id = profile.Get("sso_account_id");
    sso.role_name = profile.Get("sso_role_name");
    SharedProfile session = profile;
    if (!sso.session_name.empty()) {
      absl::StatusOr<SharedProfile> found = SharedProfile::LoadSsoSession(paths_, sso.session_name);
      if (!found.ok()) return Error(name, std::string(found.status().message()));
      if (!found->exists()) {
        return Error(name, fmt::format("there is no [sso-session {}] in {}", sso.session_name,
                                       paths_.config.empty() ? "~/.aws/config" : paths_.config));
      }
      session = *std::move(found);
    }
    sso.start_url = session.Get("sso_start_url");
    sso.region = session.Get("sso_region");
    for (const auto& [key, value] : {std::pair("sso_account_id", &sso.account_id),
                                     {"sso_role_name", &sso.role_name},
                                     {"sso_start_url", &sso.start_url},
                                     {"sso_region", &sso.region}}) {
      if (value->empty()) return Error(name, fmt::format("SSO needs {}", key));
    }
    return sso;
  }

  static absl::StatusOr<AwsRole> ReadRole(const std::string& name, const SharedProfile& profile) {
    AwsRole role;
    role.role_arn = profile.Get("role_arn");
    role.external_id = profile.Get("external_id");
    role.session_name = profile.Get("role_session_name");
    if (role.session_name.empty()) role.session_name = DefaultSessionName();
    const std::string duration = profile.Get("duration_seconds");
    if (duration.empty()) return role;
    int seconds = 0;
    if (!absl::SimpleAtoi(duration, &seconds) || seconds < 900 || seconds > 43200) {
      return Error(name, "duration_seconds must be a number from 900 to 43200");
    }
    role.duration = std::chrono::seconds(seconds);
    return role;
  }

  const Environment& environment_;
  const SharedProfile::Paths paths_;
  std::vector<std::string> visited_;
  std::string odd_line_;
};

// Who chose the profile that is looked for; empty: nobody, it has the usual name.
std::string WhoNames(const std::string& profile, const Environment& environment) {
  if (!profile.empty()) return "`profile` of the configuration";
  for (const char* const name : {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"}) {
    if (environment(name)) return name;
  }
  return "";
}

absl::StatusOr<CredentialsPlan> PlanWebIdentity(std::string token_file,
                                                const Environment& environment) {
  CredentialsPlan plan;
  plan.kind = Kind::kWebIdentity;
  plan.token_file = std::move(token_file);
  plan.web_identity.role_arn = environment("AWS_ROLE_ARN").value_or("");
  if (plan.web_identity.role_arn.empty()) {
    return absl::FailedPreconditionError(
        "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not: set both, or "
        "neither");
  }
  plan.web_identity.session_name = environment("AWS_ROLE_SESSION_NAME").value_or("");
  if (plan.web_identity.session_name.empty()) {
    plan.web_identity.session_name = DefaultSessionName();
  }
  return plan;
}

}  // namespace

const char kCredentialsHelp[] =
    "Give the pod, task or instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "write a profile";

std::string DefaultSessionName() {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  std::string name = fmt::format("mobula-{}", host.data());
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '-';
  }
  constexpr size_t kSessionNameMax = 64;
  name.resize(std::min(name.size(), kSessionNameMax));
  return name;
}

absl::StatusOr<CredentialsPlan> PlanCredentials(const std::string& profile,
                                                const Environment& environment) {
  std::string looked_at;
  if (profile.empty()) {
    ASSIGN_OR_RETURN(Credentials keys, KeysOfEnvironment(environment));
    if (!keys.access_key_id.empty()) {
      CredentialsPlan plan;
      plan.keys = std::move(keys);
      return plan;
    }
    if (auto file = environment("AWS_WEB_IDENTITY_TOKEN_FILE")) {
      return PlanWebIdentity(*std::move(file), environment);
    }
    looked_at = "AWS_ACCESS_KEY_ID and AWS_WEB_IDENTITY_TOKEN_FILE are not set, ";
  }
  ProfilePlanner planner(environment, SharedProfile::FindPaths(environment));
  const std::string name = SharedProfile::FindName(profile, environment);
  const std::string named_by = WhoNames(profile, environment);
  ASSIGN_OR_RETURN(const bool has_credentials, planner.HasCredentials(name, named_by));
  // A profile that the configuration names must be enough; a variable may name one for its region only.
  if (has_credentials || !profile.empty()) {
    ASSIGN_OR_RETURN(CredentialsPlan plan, planner.Plan(name, named_by));
    plan.asked_profile = name;
    return plan;
  }
  CredentialsPlan plan;
  if (ContainerConfigured(environment)) {
    plan.kind = Kind::kContainer;
    return plan;
  }
  looked_at +=
      fmt::format("profile \"{}\" has none in {}, AWS_CONTAINER_CREDENTIALS_FULL_URI is not set",
                  name, planner.files());
  if (IsTrue(environment, "AWS_EC2_METADATA_DISABLED")) {
    return absl::NotFoundError(fmt::format(
        "no credentials: {}, AWS_EC2_METADATA_DISABLED is true. {}", looked_at, kCredentialsHelp));
  }
  plan.kind = Kind::kInstance;
  plan.looked_at = std::move(looked_at);
  return plan;
}

}  // namespace mobula
