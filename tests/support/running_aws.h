// An AwsContext whose loop runs on a thread of its own, as in the program.
#pragma once

#include <chrono>
#include <thread>

#include "engine/aws/aws_context.h"
#include "engine/base/log.h"

namespace mobula::testing {

class RunningAws {
 public:
  RunningAws(Log* log, AwsContext::Options options)
      : context_(&loop_, log, std::move(options)), thread_([this] { loop_.Run(); }) {}
  ~RunningAws() {
    loop_.Stop();
    thread_.join();
  }
  RunningAws(const RunningAws&) = delete;
  RunningAws& operator=(const RunningAws&) = delete;

  AwsContext* get() { return &context_; }

  // What the identity's provider says once it knows.
  absl::StatusOr<CredentialsPtr> Settled(const AwsIdentity& identity) {
    const auto provider = context_.Credentials(identity);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    absl::StatusOr<CredentialsPtr> credentials = provider->Get();
    while (absl::IsUnavailable(credentials.status())) {
      if (std::chrono::steady_clock::now() > end) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      credentials = provider->Get();
    }
    return credentials;
  }

 private:
  IoLoop loop_;
  AwsContext context_;
  std::thread thread_;
};

}  // namespace mobula::testing
