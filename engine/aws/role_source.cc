// Tested by tests/unit/engine/aws/role_source_test.cc.
#include "engine/aws/role_source.h"

#include <utility>

namespace mobula {
namespace {

class RoleSource final : public CredentialsSource {
 public:
  RoleSource(IoLoop* loop, std::shared_ptr<CredentialsProvider> base, AwsRole role,
             StsSettings settings)
      : loop_(loop),
        fail_(loop),
        base_(std::move(base)),
        role_(std::move(role)),
        settings_(std::move(settings)) {}

  void Fetch(Time deadline, Done done) override {
    if (client_ == nullptr) {
      auto client = StsClient::Create(loop_, settings_, role_, base_);
      if (!client.ok()) {
        fail_.Set(std::chrono::steady_clock::now(),
                  [done = std::move(done), status = client.status()] { done(status); });
        return;
      }
      client_ = *std::move(client);
    }
    client_->AssumeRole(deadline,
                        [this, done = std::move(done)](absl::StatusOr<Credentials> result) {
                          base_failed_ = !result.ok() && !base_->Get().ok();
                          done(std::move(result));
                        });
  }

  // The next try need not wait once what it failed for is there.
  bool Changed() override { return base_failed_ && base_->Get().ok(); }

 private:
  IoLoop* const loop_;
  IoLoop::Timer fail_;
  const std::shared_ptr<CredentialsProvider> base_;
  const AwsRole role_;
  const StsSettings settings_;
  std::unique_ptr<StsClient> client_;  // made with the first Fetch
  bool base_failed_ = false;
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeRoleSource(IoLoop* loop,
                                                  std::shared_ptr<CredentialsProvider> base,
                                                  AwsRole role, StsSettings settings) {
  return std::make_unique<RoleSource>(loop, std::move(base), std::move(role), std::move(settings));
}

}  // namespace mobula
