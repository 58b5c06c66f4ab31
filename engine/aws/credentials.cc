// Tested by tests/unit/engine/aws/credentials_test.cc.
#include "engine/aws/credentials.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <utility>

#include "engine/aws/shared_profile.h"
#include "engine/base/status_macros.h"
#include "engine/base/time.h"

namespace mobula {
namespace {

using CredentialsPtr = std::shared_ptr<const Credentials>;

// Keys that never change, or the reason why there are none.
class FixedProvider final : public CredentialsProvider {
 public:
  explicit FixedProvider(absl::StatusOr<CredentialsPtr> result) : result_(std::move(result)) {}
  absl::StatusOr<CredentialsPtr> Get() override { return result_; }
  void Invalidate() override {}

 private:
  const absl::StatusOr<CredentialsPtr> result_;
};

absl::StatusOr<CredentialsPtr> FromEnvironment(const Environment& environment) {
  const auto either = [&](std::string_view name, std::string_view old) {
    const std::optional<std::string> value = environment(name);
    return value ? value : environment(old);
  };
  const auto id = either("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY");
  const auto secret = either("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY");
  if (!id && !secret) return CredentialsPtr();
  if (!id || !secret) {
    return absl::FailedPreconditionError(
        fmt::format("{} is set but {} is not: set both, or neither",
                    id ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                    id ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID"));
  }
  auto credentials = std::make_shared<Credentials>();
  credentials->access_key_id = *id;
  credentials->secret_access_key = *secret;
  credentials->session_token = environment("AWS_SESSION_TOKEN").value_or("");
  return credentials;
}

// What tells one state of a file from another.
using FileStamp = std::array<int64_t, 4>;

FileStamp StampOf(const std::string& path) {
  struct stat found;
  if (path.empty() || ::stat(path.c_str(), &found) != 0) return {};
  return {found.st_mtim.tv_sec, found.st_mtim.tv_nsec, static_cast<int64_t>(found.st_ino),
          found.st_size};
}

// Keys of a profile, read again when a file changes.
class ProfileProvider final : public CredentialsProvider {
 public:
  ProfileProvider(SharedProfile::Paths paths, std::string name, std::string other_source)
      : paths_(std::move(paths)), name_(std::move(name)), other_source_(std::move(other_source)) {}

  absl::StatusOr<CredentialsPtr> Get() override {
    // Looking at the files costs two system calls: not for every call to the far side.
    const Time now = std::chrono::steady_clock::now();
    if (now < look_again_) return result_;
    look_again_ = now + std::chrono::seconds(1);
    const std::pair stamps(StampOf(paths_.credentials), StampOf(paths_.config));
    if (read_ && stamps == stamps_) return result_;
    read_ = true;
    stamps_ = stamps;
    result_ = Read();
    return result_;
  }

  void Invalidate() override {
    read_ = false;
    look_again_ = Time::min();
  }

 private:
  absl::StatusOr<CredentialsPtr> Read() const {
    ASSIGN_OR_RETURN(const SharedProfile profile, SharedProfile::Load(paths_, name_));
    auto credentials = std::make_shared<Credentials>();
    credentials->access_key_id = profile.Get("aws_access_key_id");
    credentials->secret_access_key = profile.Get("aws_secret_access_key");
    credentials->session_token = profile.Get("aws_session_token");
    for (const std::string_view key :
         {"role_arn", "credential_process", "sso_session", "sso_start_url"}) {
      if (profile.Get(key).empty()) continue;
      return absl::FailedPreconditionError(fmt::format(
          "profile \"{}\" has {}, which is not supported: only keys written in the profile are",
          name_, key));
    }
    const bool id = !credentials->access_key_id.empty();
    const bool secret = !credentials->secret_access_key.empty();
    if (id && secret) return credentials;
    if (id || secret) {
      return absl::FailedPreconditionError(
          fmt::format("profile \"{}\" has {} but not {}", name_,
                      id ? "aws_access_key_id" : "aws_secret_access_key",
                      id ? "aws_secret_access_key" : "aws_access_key_id"));
    }
    return absl::FailedPreconditionError(fmt::format(
        "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write keys for "
        "profile \"{}\" into {}{}",
        name_, paths_.credentials.empty() ? "~/.aws/credentials" : paths_.credentials,
        other_source_));
  }

  const SharedProfile::Paths paths_;
  const std::string name_;
  const std::string other_source_;  // a hint for the message
  absl::StatusOr<CredentialsPtr> result_;
  bool read_ = false;
  std::pair<FileStamp, FileStamp> stamps_;
  Time look_again_ = Time::min();
};

}  // namespace

Environment ProcessEnvironment() {
  return [](std::string_view name) -> std::optional<std::string> {
    const char* const value = std::getenv(std::string(name).c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  };
}

std::unique_ptr<CredentialsProvider> MakeCredentialsProvider(std::string profile,
                                                             Environment environment) {
  if (profile.empty()) {
    absl::StatusOr<CredentialsPtr> found = FromEnvironment(environment);
    if (!found.ok() || *found != nullptr) return std::make_unique<FixedProvider>(std::move(found));
    // The node's or somebody's keys must not stand in for the identity that was meant.
    if (environment("AWS_WEB_IDENTITY_TOKEN_FILE")) {
      return std::make_unique<FixedProvider>(absl::FailedPreconditionError(
          "AWS_WEB_IDENTITY_TOKEN_FILE is set, but web identities are not supported: set "
          "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or unset it"));
    }
  }
  const bool container = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
                         environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  return std::make_unique<ProfileProvider>(
      SharedProfile::FindPaths(environment), SharedProfile::FindName(profile, environment),
      container
          ? " (AWS_CONTAINER_CREDENTIALS_… is set, but container credentials are not supported)"
          : "");
}

}  // namespace mobula
