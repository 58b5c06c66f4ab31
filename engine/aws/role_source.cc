// Tested by tests/unit/engine/aws/role_source_test.cc.
#include "engine/aws/role_source.h"

#include <fmt/format.h>

#include <utility>

namespace mobula {
namespace {

constexpr Duration kAskAgain = std::chrono::milliseconds(50);

class RoleSource final : public CredentialsSource {
 public:
  RoleSource(IoLoop* loop, std::shared_ptr<CredentialsProvider> base, AwsRole role,
             StsSettings settings)
      : loop_(loop),
        timer_(loop),
        base_(std::move(base)),
        role_(std::move(role)),
        settings_(std::move(settings)) {}

  void Fetch(Time deadline, Done done) override {
    deadline_ = deadline;
    done_ = std::move(done);
    timer_.Set(std::chrono::steady_clock::now(), [this] { Begin(); });
  }

  // The next try need not wait once what it failed for is there.
  bool Changed() override { return base_failed_ && base_->Get().ok(); }

 private:
  void Begin() {
    const absl::Status base = base_->Get().status();
    base_failed_ = !base.ok();
    if (absl::IsUnavailable(base)) {
      const Time next = std::chrono::steady_clock::now() + kAskAgain;
      if (next < deadline_) {
        timer_.Set(next, [this] { Begin(); });
        return;
      }
    }
    if (!base.ok()) {
      End(absl::Status(base.code(), fmt::format("assume role {}: {}", role_.role_arn,
                                                std::string(base.message()))));
      return;
    }
    if (client_ == nullptr) {
      auto client = StsClient::Create(loop_, settings_, role_, base_);
      if (!client.ok()) {
        End(client.status());
        return;
      }
      client_ = *std::move(client);
    }
    client_->AssumeRole(deadline_,
                        [this](absl::StatusOr<Credentials> result) { End(std::move(result)); });
  }

  void End(absl::StatusOr<Credentials> result) {
    const Done done = std::exchange(done_, nullptr);
    done(std::move(result));
  }

  IoLoop* const loop_;
  IoLoop::Timer timer_;
  const std::shared_ptr<CredentialsProvider> base_;
  const AwsRole role_;
  const StsSettings settings_;
  std::unique_ptr<StsClient> client_;  // made with the first Fetch
  bool base_failed_ = false;
  Time deadline_;
  Done done_;
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeRoleSource(IoLoop* loop,
                                                  std::shared_ptr<CredentialsProvider> base,
                                                  AwsRole role, StsSettings settings) {
  return std::make_unique<RoleSource>(loop, std::move(base), std::move(role), std::move(settings));
}

}  // namespace mobula
