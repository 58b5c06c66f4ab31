// Tested by tests/unit/engine/aws/instance_role_source_test.cc.
#include "engine/aws/instance_role_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "engine/aws/credentials_document.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr std::string_view kPath = "/latest/meta-data/iam/security-credentials/";
// For each of the two questions of a fetch.
constexpr Duration kTimeoutMax = std::chrono::seconds(5);

// The first line of the list of roles; an instance has one.
std::string FirstLine(std::string_view text) {
  std::string line(text.substr(0, text.find('\n')));
  absl::StripAsciiWhitespace(&line);
  return line;
}

bool IsRoleName(std::string_view text) {
  constexpr std::string_view kOthers = "+=,.@-_";
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [=](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           kOthers.find(c) != std::string_view::npos;
  });
}

absl::StatusOr<Credentials> ReadAnswer(std::string_view text, const std::string& role) {
  const std::optional<JsonValue> json = ParseJson(text);
  if (!json) {
    return absl::UnavailableError(fmt::format("the metadata of {} is no JSON", role));
  }
  const std::string_view code = json->FindString("Code");
  if (!code.empty() && code != "Success") {
    return absl::FailedPreconditionError(fmt::format("{} gives no credentials: {} {}", role,
                                                     code.substr(0, 100),
                                                     json->FindString("Message").substr(0, 500)));
  }
  absl::StatusOr<Credentials> credentials =
      ReadCredentials(*json, fmt::format("the metadata of {}", role), {});
  if (credentials.ok()) credentials->source = fmt::format("instance role {}", role);
  return credentials;
}

class InstanceRoleSource final : public CredentialsSource {
 public:
  explicit InstanceRoleSource(std::shared_ptr<ImdsClient> imds) : imds_(std::move(imds)) {}

  void Fetch(Time deadline, Done done) override {
    imds_->Get(
        std::string(kPath), deadline,
        [this, deadline, done = std::move(done)](const absl::StatusOr<std::string>& roles) {
          OnRoles(deadline, done, roles);
        },
        timeout_);
  }

 private:
  void OnRoles(Time deadline, const Done& done, const absl::StatusOr<std::string>& roles) {
    if (absl::IsNotFound(roles.status())) {
      Fail(done, absl::FailedPreconditionError(
                     "this EC2 instance has none: attach an instance profile, or "
                     "give credentials elsewhere"));
      return;
    }
    const std::string role = roles.ok() ? FirstLine(*roles) : std::string();
    if (!roles.ok() || !IsRoleName(role)) {
      Fail(done, roles.ok() ? absl::UnavailableError("the metadata service names no usable role")
                            : roles.status());
      return;
    }
    imds_->Get(
        std::string(kPath) + role, deadline,
        [this, done, role](const absl::StatusOr<std::string>& answer) {
          absl::StatusOr<Credentials> credentials =
              answer.ok() ? ReadAnswer(*answer, role) : answer.status();
          if (credentials.ok()) {
            done(std::move(credentials));
          } else {
            Fail(done, credentials.status());
          }
        },
        timeout_);
  }

  void Fail(const Done& done, const absl::Status& status) {
    // A slow service is given more time by the next fetch.
    if (absl::IsDeadlineExceeded(status)) timeout_ = std::min(timeout_ * 2, kTimeoutMax);
    // Between the two questions the role was detached.
    const bool gone = absl::IsNotFound(status);
    done(OfSource("instance role",
                  gone ? absl::UnavailableError(absl::string_view(status.message())) : status));
  }

  const std::shared_ptr<ImdsClient> imds_;
  Duration timeout_ = std::chrono::seconds(1);
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeInstanceRoleSource(std::shared_ptr<ImdsClient> imds) {
  return std::make_unique<InstanceRoleSource>(std::move(imds));
}

}  // namespace mobula
