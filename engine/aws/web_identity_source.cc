// Tested by tests/unit/engine/aws/web_identity_source_test.cc.
#include "engine/aws/web_identity_source.h"

#include <fmt/format.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "engine/base/small_file.h"

namespace mobula {
namespace {

constexpr size_t kTokenBytesMax = 20'000;  // what STS takes

class WebIdentitySource final : public CredentialsSource {
 public:
  WebIdentitySource(IoLoop* loop, std::string token_file, AwsRole role, StsSettings settings)
      : loop_(loop),
        fail_(loop),
        token_file_(std::move(token_file)),
        role_(std::move(role)),
        settings_(std::move(settings)) {}

  void Fetch(Time deadline, Done done) override {
    if (client_ == nullptr) {
      auto client = StsClient::Create(loop_, settings_, role_, nullptr);
      if (!client.ok()) {
        fail_.Set(std::chrono::steady_clock::now(),
                  [done = std::move(done), status = client.status()] { done(status); });
        return;
      }
      client_ = *std::move(client);
    }
    client_->AssumeRoleWithWebIdentity(
        [this] { return ReadToken(); }, deadline,
        [this, done = std::move(done)](absl::StatusOr<Credentials> result) {
          if (result.ok()) result->source = fmt::format("web identity ({})", role_.role_arn);
          done(std::move(result));
        });
  }

 private:
  absl::StatusOr<std::string> ReadToken() const {
    absl::StatusOr<std::string> text = ReadSmallFile(token_file_, kTokenBytesMax);
    if (!text.ok()) {
      return absl::FailedPreconditionError(
          fmt::format("token file: {}", std::string(text.status().message())));
    }
    absl::StripAsciiWhitespace(&*text);
    if (text->empty()) {
      return absl::FailedPreconditionError(fmt::format("token file {} is empty", token_file_));
    }
    return text;
  }

  IoLoop* const loop_;
  IoLoop::Timer fail_;
  const std::string token_file_;
  const AwsRole role_;
  const StsSettings settings_;
  std::unique_ptr<StsClient> client_;  // made with the first Fetch
};

}  // namespace

std::unique_ptr<CredentialsSource> MakeWebIdentitySource(IoLoop* loop, std::string token_file,
                                                         AwsRole role, StsSettings settings) {
  return std::make_unique<WebIdentitySource>(loop, std::move(token_file), std::move(role),
                                             std::move(settings));
}

}  // namespace mobula
