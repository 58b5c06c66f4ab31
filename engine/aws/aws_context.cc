// Tested by tests/unit/engine/aws/aws_context_test.cc.
#include "engine/aws/aws_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <list>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "engine/aws/credential_chain.h"
#include "engine/aws/imds_client.h"
#include "engine/aws/region_finder.h"
#include "engine/aws/renewing_provider.h"
#include "engine/aws/role_source.h"
#include "engine/base/aws_region.h"
#include "engine/base/mutex.h"

namespace mobula {
namespace {

constexpr Duration kHostFactsTimeout = std::chrono::seconds(5);

std::string NameOf(const AwsIdentity& identity) {
  if (!identity.roles.empty()) return identity.roles.back().role_arn;
  if (!identity.profile.empty()) return fmt::format("profile {}", identity.profile);
  return "default";
}

std::string SessionOf(const AwsIdentity& identity) {
  return identity.roles.empty() ? "" : identity.roles.back().session_name;
}

// An answer that is awaited in other threads; there is one even when nobody comes to give it.
class RegionAnswer {
 public:
  using Region = absl::StatusOr<FoundRegion>;

  RegionAnswer() = default;
  ~RegionAnswer() {
    if (!given_) promise_.set_value(absl::CancelledError("the search for the AWS region ended"));
  }
  RegionAnswer(const RegionAnswer&) = delete;
  RegionAnswer& operator=(const RegionAnswer&) = delete;

  std::shared_future<Region> future() { return promise_.get_future().share(); }
  void Give(const Region& region) {
    given_ = true;
    promise_.set_value(region);
  }

 private:
  std::promise<Region> promise_;
  bool given_ = false;
};

}  // namespace

class AwsContext::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(IoLoop* io_loop, Log* the_log, Options the_options)
      : loop(io_loop),
        log(the_log),
        options(std::move(the_options)),
        imds(std::make_shared<ImdsClient>(loop, options.environment)) {}

  void Close() {
    const MutexLock lock(&mutex_);
    for (const Entry& entry : identities_) entry.provider->Close();
  }

  std::shared_ptr<CredentialsProvider> Credentials(const AwsIdentity& identity) {
    const MutexLock lock(&mutex_);
    return Find(identity);
  }

  // On the loop's thread.
  void Tidy() {
    const MutexLock lock(&mutex_);
    // A role's source holds the provider below it.
    for (bool found = true; found;) {
      found = std::erase_if(identities_, [](const Entry& entry) {
                if (entry.provider.use_count() > 1) return false;
                entry.provider->Close();
                return true;
              }) > 0;
    }
  }

  std::vector<AwsIdentityState> identities() const {
    const MutexLock lock(&mutex_);
    std::vector<AwsIdentityState> states;
    states.reserve(identities_.size());
    for (const Entry& entry : identities_) states.push_back(entry.provider->state());
    return states;
  }

  absl::StatusOr<FoundRegion> FindRegion(const std::string& profile, Time deadline) {
    // The settings may change while the process runs; the lane of a backend changes with them.
    const auto setting = FindRegionInSettings(profile, options.environment);
    const std::string key = fmt::format("{}\n{}", profile, setting ? setting->name : "");
    std::shared_future<Region> region;
    {
      const MutexLock lock(&mutex_);
      const auto found = regions_.find(key);
      if (found != regions_.end()) {
        region = found->second;
      } else {
        const auto answer = std::make_shared<RegionAnswer>();
        region = answer->future();
        regions_.emplace(key, region);
        loop->Post([weak = weak_from_this(), key, profile, deadline, answer] {
          if (const auto self = weak.lock()) self->BeginFindRegion(key, profile, deadline, answer);
        });
      }
    }
    if (region.wait_until(deadline) == std::future_status::ready) return region.get();
    return absl::DeadlineExceededError("the AWS region was not found in time");
  }

  void FindHostFacts(std::function<void(HostFacts)> done);

  IoLoop* const loop;
  Log* const log;
  const Options options;
  const std::shared_ptr<ImdsClient> imds;

 private:
  using Region = RegionAnswer::Region;

  struct Entry {
    AwsIdentity identity;
    std::shared_ptr<RenewingProvider> provider;
  };

  std::shared_ptr<RenewingProvider> Find(const AwsIdentity& identity)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const Entry& entry : identities_) {
      if (entry.identity == identity) return entry.provider;
    }
    const StsSettings sts{identity.region, identity.sts, options.environment, options.user_agent,
                          log};
    std::unique_ptr<CredentialsSource> source;
    if (identity.roles.empty()) {
      source = MakeCredentialChain(loop, identity.profile, imds, sts);
    } else {
      AwsIdentity base = identity;
      base.roles.pop_back();
      source = MakeRoleSource(loop, Find(base), identity.roles.back(), sts);
    }
    auto provider = RenewingProvider::Start(loop, std::move(source), UniqueName(identity), log);
    identities_.push_back({identity, provider});
    return provider;
  }

  // Metrics and log tell identities apart by name alone: those that would share one get what they differ in behind
  // it, as far as it may be told.
  std::string UniqueName(const AwsIdentity& identity) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto differs = [&](auto get) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return !get(identity).empty() &&
             std::all_of(identities_.begin(), identities_.end(), [&](const Entry& entry) {
               return NameOf(entry.identity) != NameOf(identity) ||
                      get(entry.identity) != get(identity);
             });
    };
    const auto taken = [this](const std::string& name) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return std::any_of(identities_.begin(), identities_.end(),
                         [&](const Entry& entry) { return entry.provider->name() == name; });
    };
    const std::string name = NameOf(identity);
    std::string unique = name;
    if (taken(unique)) {
      if (differs([](const AwsIdentity& i) { return i.region; })) {
        unique = fmt::format("{} in {}", name, identity.region);
      } else if (differs(SessionOf)) {
        unique = fmt::format("{} (session {})", name, SessionOf(identity));
      }
    }
    for (int i = 2; taken(unique); ++i) unique = fmt::format("{} #{}", name, i);
    return unique;
  }

  void BeginFindRegion(const std::string& key, const std::string& profile, Time deadline,
                       const std::shared_ptr<RegionAnswer>& answer) {
    RegionFinder::Options find;
    find.profile = profile;
    find.environment = options.environment;
    find.imds = imds;
    find.metadata = options.metadata;
    find.of_daemon = options.of_daemon;
    const auto finder = finders_.emplace(finders_.end(), loop, std::move(find));
    finder->Find(deadline, [this, finder, key, answer](const Region& region) {
      if (!region.ok()) {
        // Not kept: the next who asks may be luckier.
        const MutexLock lock(&mutex_);
        regions_.erase(key);
      }
      answer->Give(region);
      // Not inside its own callback.
      loop->Post([weak = weak_from_this(), finder] {
        if (const auto self = weak.lock()) self->finders_.erase(finder);
      });
    });
  }

  mutable Mutex mutex_;
  std::vector<Entry> identities_ ABSL_GUARDED_BY(mutex_);
  // By profile and what the settings say.
  std::map<std::string, std::shared_future<Region>> regions_ ABSL_GUARDED_BY(mutex_);
  std::list<RegionFinder> finders_;  // under way; the loop's thread
};

void AwsContext::Impl::FindHostFacts(std::function<void(HostFacts)> done) {
  struct Search {
    HostFacts facts;
    int open = 1;
    std::function<void(HostFacts)> done;
    void Close() {
      if (--open == 0) done(std::move(facts));
    }
  };
  const auto search = std::make_shared<Search>();
  search->done = std::move(done);
  search->facts.hostname = options.environment("AWS_HOSTNAME").value_or("");
  search->facts.instance_id = options.environment("AWS_INSTANCE_ID").value_or("");
  loop->Post([weak = weak_from_this(), search] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    const Time deadline = std::chrono::steady_clock::now() + kHostFactsTimeout;
    const auto ask = [&](const char* path, std::string HostFacts::*fact) {
      if (!(search->facts.*fact).empty() || !self->options.metadata) return;
      ++search->open;
      self->imds->Get(path, deadline, [search, fact](absl::StatusOr<std::string> text) {
        if (text.ok()) search->facts.*fact = *std::move(text);
        search->Close();
      });
    };
    ask("/latest/meta-data/hostname", &HostFacts::hostname);
    ask("/latest/meta-data/instance-id", &HostFacts::instance_id);
    search->Close();
  });
}

AwsContext::AwsContext(IoLoop* loop, Log* log, Options options)
    : impl_(std::make_shared<Impl>(loop, log, std::move(options))) {}

AwsContext::~AwsContext() { impl_->Close(); }

std::shared_ptr<CredentialsProvider> AwsContext::Credentials(const AwsIdentity& identity) {
  return impl_->Credentials(identity);
}

absl::StatusOr<FoundRegion> AwsContext::FindRegion(const std::string& configured,
                                                   const std::string& profile, Time deadline) {
  if (configured.empty()) return impl_->FindRegion(profile, deadline);
  if (IsAwsRegion(configured)) return FoundRegion{configured, "configuration"};
  return absl::InvalidArgumentError(fmt::format("\"{}\" is no AWS region", configured));
}

void AwsContext::FindHostFacts(std::function<void(HostFacts)> done) {
  impl_->FindHostFacts(std::move(done));
}

void AwsContext::Tidy() {
  impl_->loop->Post([weak = std::weak_ptr<Impl>(impl_)] {
    if (const auto impl = weak.lock()) impl->Tidy();
  });
}

std::vector<AwsIdentityState> AwsContext::identities() const { return impl_->identities(); }
const Environment& AwsContext::environment() const { return impl_->options.environment; }
const std::string& AwsContext::user_agent() const { return impl_->options.user_agent; }
Log* AwsContext::log() const { return impl_->log; }
IoLoop* AwsContext::loop() const { return impl_->loop; }

}  // namespace mobula
