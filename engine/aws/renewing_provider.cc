// Renewal on a loop, and its log lines. Tested by tests/unit/engine/aws/renewing_provider_test.cc.
#include "engine/aws/renewing_provider.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <random>
#include <utility>

#include "engine/base/log.h"

namespace mobula {
namespace {

constexpr Duration kFetchTimeout = std::chrono::seconds(10);
constexpr Duration kLookEvery = std::chrono::seconds(2);

Renewal::Now ReadClocks() {
  return {std::chrono::steady_clock::now(), std::chrono::system_clock::now()};
}

std::string FormatTime(const std::optional<Renewal::WallTime>& time) {
  if (!time) return "never";
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(*time)));
}

}  // namespace

struct RenewingProvider::OnLoop {
  OnLoop(IoLoop* loop, std::unique_ptr<CredentialsSource> credentials_source)
      : source(std::move(credentials_source)), due(loop), look(loop) {}

  const std::unique_ptr<CredentialsSource> source;
  IoLoop::Timer due;
  IoLoop::Timer look;
};

std::shared_ptr<RenewingProvider> RenewingProvider::Start(IoLoop* loop,
                                                          std::unique_ptr<CredentialsSource> source,
                                                          std::string name, Log* log) {
  std::shared_ptr<RenewingProvider> provider(
      new RenewingProvider(loop, std::move(source), std::move(name), log));
  loop->Post([weak = provider->weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr || self->on_loop_ == nullptr) return;
    self->FollowDue();
    self->LookForChange();
  });
  return provider;
}

RenewingProvider::RenewingProvider(IoLoop* loop, std::unique_ptr<CredentialsSource> source,
                                   std::string name, Log* log)
    : name_(std::move(name)),
      log_(log),
      on_loop_(std::make_unique<OnLoop>(loop, std::move(source))),
      loop_(loop),
      renewal_(std::random_device()()) {}

RenewingProvider::~RenewingProvider() = default;

void RenewingProvider::Close() {
  {
    const MutexLock lock(&mutex_);
    loop_ = nullptr;
  }
  on_loop_.reset();
}

absl::StatusOr<CredentialsPtr> RenewingProvider::Get() {
  const Renewal::Now now = ReadClocks();
  const MutexLock lock(&mutex_);
  const Time due = renewal_.due();
  absl::StatusOr<CredentialsPtr> found = renewal_.Get(now);
  if (renewal_.due() != due) WakeLoop();
  return found;
}

void RenewingProvider::Invalidate(const Credentials& refused) {
  const Renewal::Now now = ReadClocks();
  const MutexLock lock(&mutex_);
  const Time due = renewal_.due();
  renewal_.OnRefused(refused, now);
  if (renewal_.due() != due) WakeLoop();
}

AwsIdentityState RenewingProvider::state() const {
  const Renewal::Now now = ReadClocks();
  const MutexLock lock(&mutex_);
  AwsIdentityState state;
  state.name = name_;
  if (renewal_.Usable(now.wall)) {
    state.source = renewal_.present()->source;
    state.expiry = renewal_.present()->expiry;
  }
  state.renewals = renewal_.renewals();
  state.failures = renewal_.failures();
  state.error = renewal_.error();
  return state;
}

void RenewingProvider::WakeLoop() {
  if (loop_ == nullptr) return;
  loop_->Post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->FollowDue();
  });
}

void RenewingProvider::FollowDue() {
  if (on_loop_ == nullptr) return;
  Time due;
  {
    const MutexLock lock(&mutex_);
    due = renewal_.due();
  }
  if (due == kTimeNever) {
    on_loop_->due.Cancel();
  } else if (due <= std::chrono::steady_clock::now()) {
    Fetch();
  } else {
    on_loop_->due.Set(due, [this] { FollowDue(); });
  }
}

void RenewingProvider::Fetch() {
  {
    const MutexLock lock(&mutex_);
    renewal_.OnFetchBegun();
  }
  on_loop_->due.Cancel();
  on_loop_->source->Fetch(std::chrono::steady_clock::now() + kFetchTimeout,
                          [weak = weak_from_this()](absl::StatusOr<Credentials> result) {
                            const auto self = weak.lock();
                            if (self != nullptr && self->on_loop_ != nullptr) {
                              self->OnFetched(std::move(result));
                            }
                          });
}

void RenewingProvider::OnFetched(absl::StatusOr<Credentials> result) {
  const Renewal::Now now = ReadClocks();
  const absl::Status status = result.status();
  bool news = false;
  bool usable = false;
  CredentialsPtr present;
  {
    const MutexLock lock(&mutex_);
    news = renewal_.present() == nullptr || !renewal_.error().ok();
    renewal_.OnFetched(std::move(result), now);
    present = renewal_.present();
    usable = renewal_.Usable(now.wall);
  }
  FollowDue();
  if (log_ == nullptr) return;
  if (!status.ok()) {
    const std::string why(status.message());
    log_->Warn("credentials_failed",
               usable ? fmt::format("credentials could not be renewed, those there are good until "
                                    "{}: {}",
                                    FormatTime(present->expiry), why)
                      : why,
               {{"key", name_}});
  } else if (news) {
    log_->Info(
        "credentials", fmt::format("credentials from {}", present->source),
        {{"key", name_}, {"source", present->source}, {"expires", FormatTime(present->expiry)}});
  }
}

void RenewingProvider::LookForChange() {
  bool fetching = false;
  {
    const MutexLock lock(&mutex_);
    fetching = renewal_.fetching();
  }
  if (!fetching && on_loop_->source->Changed()) {
    {
      const MutexLock lock(&mutex_);
      renewal_.OnSourceChanged(ReadClocks());
    }
    FollowDue();
  }
  on_loop_->look.Set(std::chrono::steady_clock::now() + kLookEvery, [this] { LookForChange(); });
}

}  // namespace mobula
