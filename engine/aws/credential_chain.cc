// Carries plans out. Tested by tests/unit/engine/aws/credential_chain_test.cc.
#include "engine/aws/credential_chain.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "engine/aws/aws_context.h"
#include "engine/aws/container_source.h"
#include "engine/aws/credentials_plan.h"
#include "engine/aws/instance_role_source.h"
#include "engine/aws/process_source.h"
#include "engine/aws/renewing_provider.h"
#include "engine/aws/role_source.h"
#include "engine/aws/shared_profile.h"
#include "engine/aws/web_identity_source.h"
#include "engine/base/check.h"
#include "engine/base/small_file.h"

namespace mobula {
namespace {

using Kind = CredentialsPlan::Kind;

class KeysSource final : public CredentialsSource {
 public:
  KeysSource(IoLoop* loop, Credentials keys) : timer_(loop), keys_(std::move(keys)) {}

  void Fetch(Time, Done done) override {
    timer_.Set(std::chrono::steady_clock::now(), [this, done = std::move(done)] { done(keys_); });
  }

 private:
  IoLoop::Timer timer_;
  const Credentials keys_;
};

class CredentialChain final : public CredentialsSource {
 public:
  CredentialChain(IoLoop* loop, std::string profile, std::shared_ptr<ImdsClient> imds,
                  StsSettings settings)
      : loop_(loop),
        fail_(loop),
        profile_(std::move(profile)),
        imds_(std::move(imds)),
        settings_(std::move(settings)),
        paths_(SharedProfile::FindPaths(settings_.environment)) {}

  ~CredentialChain() override { Drop(); }

  void Fetch(Time deadline, Done done) override {
    stamps_ = ReadStamps();
    absl::StatusOr<CredentialsPlan> plan = PlanCredentials(profile_, settings_.environment);
    if (!plan.ok()) {
      Drop();
      fail_.Set(std::chrono::steady_clock::now(),
                [done = std::move(done), status = plan.status()] { done(status); });
      return;
    }
    if (plan_ != *plan) {
      Drop();
      plan_ = *std::move(plan);
      Build();
    }
    source_->Fetch(deadline,
                   [this, done = std::move(done)](absl::StatusOr<Credentials> result) mutable {
                     answered_ = answered_ || result.ok();
                     done(Explain(std::move(result)));
                   });
  }

  bool Changed() override {
    return stamps_ != ReadStamps() || (source_ != nullptr && source_->Changed());
  }

 private:
  using Stamps = std::pair<FileStamp, FileStamp>;

  Stamps ReadStamps() const { return {StampOf(paths_.credentials), StampOf(paths_.config)}; }

  void Drop() {
    source_.reset();
    for (const auto& provider : assumed_with_) provider->Close();
    assumed_with_.clear();
    plan_.reset();
    answered_ = false;
  }

  void Build() {
    source_ = MakeFirst();
    for (const AwsRole& role : plan_->roles) {
      assumed_with_.push_back(RenewingProvider::Start(loop_, std::move(source_), "", nullptr));
      source_ = MakeRoleSource(loop_, assumed_with_.back(), role, settings_);
    }
  }

  std::unique_ptr<CredentialsSource> MakeFirst() const {
    switch (plan_->kind) {
      case Kind::kKeys:
        return std::make_unique<KeysSource>(loop_, plan_->keys);
      case Kind::kWebIdentity:
        return MakeWebIdentitySource(loop_, plan_->token_file, plan_->web_identity, settings_);
      case Kind::kProcess:
        return MakeProcessSource(loop_, plan_->command, plan_->profile);
      case Kind::kSso:
        return MakeSsoSource(loop_, plan_->sso, settings_.environment);
      case Kind::kContainer:
        return MakeContainerSource(loop_, settings_.environment);
      case Kind::kInstance:
        return MakeInstanceRoleSource(imds_);
    }
    CHECK(false);
  }

  // The result with its place in the chain.
  absl::StatusOr<Credentials> Explain(absl::StatusOr<Credentials> result) const {
    const std::string& asked = plan_->asked_profile;
    const std::string prefix = !asked.empty() ? fmt::format("profile \"{}\"", asked)
                               : plan_->kind == Kind::kWebIdentity ? "web identity"
                                                                   : "";
    if (result.ok()) {
      if (!asked.empty() && !result->source.starts_with(prefix)) {
        result->source = fmt::format("{} ({})", prefix, result->source);
      }
      return result;
    }
    const std::string message(result.status().message());
    // Once EC2 has given some it is the source, and what fails is EC2.
    if (!plan_->looked_at.empty() && !answered_) {
      return absl::NotFoundError(
          fmt::format("no credentials: {}, {}. {}", plan_->looked_at, message, kCredentialsHelp));
    }
    if (prefix.empty() || message.starts_with(prefix)) return result;
    return absl::Status(result.status().code(), fmt::format("{}: {}", prefix, message));
  }

  IoLoop* const loop_;
  IoLoop::Timer fail_;
  const std::string profile_;
  const std::shared_ptr<ImdsClient> imds_;
  const StsSettings settings_;
  const SharedProfile::Paths paths_;
  Stamps stamps_{};
  // What is being carried out, kept while the plan stays the same.
  std::optional<CredentialsPlan> plan_;
  std::unique_ptr<CredentialsSource> source_;
  std::vector<std::shared_ptr<RenewingProvider>> assumed_with_;
  bool answered_ = false;  // the plan has given credentials
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeCredentialChain(IoLoop* loop, std::string profile,
                                                       std::shared_ptr<ImdsClient> imds,
                                                       StsSettings settings) {
  return std::make_unique<CredentialChain>(loop, std::move(profile), std::move(imds),
                                           std::move(settings));
}

}  // namespace mobula
