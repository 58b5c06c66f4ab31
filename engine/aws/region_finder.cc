// Tested by tests/unit/engine/aws/region_finder_test.cc.
#include "engine/aws/region_finder.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "engine/aws/flag_text.h"
#include "engine/aws/region_document.h"
#include "engine/aws/retrying_client.h"
#include "engine/aws/shared_profile.h"
#include "engine/base/aws_region.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"

namespace mobula {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;
constexpr std::string_view kEcsEnable = "ECS_ENABLE_CONTAINER_METADATA";
constexpr std::string_view kEcsFile = "ECS_CONTAINER_METADATA_FILE";
constexpr std::string_view kEcsUri = "ECS_CONTAINER_METADATA_URI_V4";

constexpr std::string_view kEcsMetadata = "ECS task metadata";
constexpr std::string_view kEc2Metadata = "EC2 metadata";
// Of each HTTP call of a round: the token's, and the document's.
constexpr Duration kEc2Rounds[] = {std::chrono::seconds(1), std::chrono::seconds(2),
                                   std::chrono::seconds(7)};
constexpr Duration kEc2Max = std::chrono::seconds(20);

absl::StatusOr<SharedProfile> LoadProfile(const std::string& name, const Environment& environment) {
  return SharedProfile::Load(SharedProfile::FindPaths(environment), name);
}

}  // namespace

const char kRegionHelp[] = "Set `region` of the backend, or AWS_REGION";

std::optional<FoundRegion> FindRegionInSettings(const std::string& profile,
                                                const Environment& environment) {
  for (const char* const name : {"AWS_REGION", "AWS_DEFAULT_REGION"}) {
    if (auto region = environment(name)) return FoundRegion{*std::move(region), name};
  }
  const std::string name = SharedProfile::FindName(profile, environment);
  const absl::StatusOr<SharedProfile> loaded = LoadProfile(name, environment);
  if (!loaded.ok() || loaded->Get("region").empty()) return std::nullopt;
  return FoundRegion{loaded->Get("region"), fmt::format("profile {}", name)};
}

class RegionFinder::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(IoLoop* loop, Options options) : loop_(loop), options_(std::move(options)) {}

  void Find(Time deadline, Done done) {
    deadline_ = deadline;
    done_ = std::move(done);
    // Posted, so that every way to an answer is the same.
    loop_->Post([self = weak_from_this()] {
      if (const auto impl = self.lock()) impl->Begin();
    });
  }

 private:
  void Begin() {
    if (!options_.configured.empty()) {
      FinishWithSetting(options_.configured, "configuration");
      return;
    }
    if (const auto region = options_.environment("AWS_REGION")) {
      FinishWithSetting(*region, "AWS_REGION");
      return;
    }
    Note("the configuration", "not set");
    Note("AWS_REGION", "not set");
    if (!options_.metadata) {
      Note("ECS and EC2 metadata",
           options_.of_daemon ? "not asked in local mode" : "not asked: aws.metadata is off");
      LookAtSettings();
      return;
    }
    const absl::StatusOr<std::string> region = ReadEcsFile();
    if (region.ok()) {
      FinishWithMetadata(*region, "ECS metadata file");
      return;
    }
    Note("the ECS metadata file", region.status().message());
    if (const absl::Status status = AskEcs(); !status.ok()) {
      Note(kEcsMetadata, status.message());
      AskEc2();
    }
  }

  [[nodiscard]] absl::StatusOr<std::string> ReadEcsFile() const {
    if (!IsTrue(options_.environment, kEcsEnable)) {
      return absl::FailedPreconditionError(fmt::format("{} is not true", kEcsEnable));
    }
    const auto path = options_.environment(kEcsFile);
    if (!path) return absl::FailedPreconditionError(fmt::format("{} is not set", kEcsFile));
    ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(*path, kFileBytesMax));
    return RegionOfTask(text);
  }

  // OK: the answer will come.
  absl::Status AskEcs() {
    const auto uri = options_.environment(kEcsUri);
    if (!uri) return absl::FailedPreconditionError(fmt::format("{} is not set", kEcsUri));
    const absl::StatusOr<HttpUrl> url = ParseHttpUrl(*uri);
    if (!url.ok()) return absl::FailedPreconditionError(fmt::format("{} is no URL", kEcsUri));
    HttpClient::Options options;
    options.url = *url;
    ASSIGN_OR_RETURN(ecs_, RetryingClient::Create(loop_, std::move(options)));
    RetryingClient::Call call;
    call.target = url->path + "/task";
    call.tries = 1;
    call.deadline = deadline_;
    ecs_->Send(std::move(call), [this](const HttpResponse& response) { OnEcsAnswer(response); });
    return absl::OkStatus();
  }

  void OnEcsAnswer(const HttpResponse& response) {
    const absl::Status status = CheckAnswer(response, "the metadata service", ecs_->url());
    const absl::StatusOr<std::string> region = status.ok() ? RegionOfTask(response.body) : status;
    if (region.ok()) {
      FinishWithMetadata(*region, kEcsMetadata);
      return;
    }
    Note(kEcsMetadata, region.status().message());
    AskEc2();
  }

  void AskEc2() {
    ec2_deadline_ = std::min(deadline_, std::chrono::steady_clock::now() + kEc2Max);
    AskEc2Within(0);
  }

  void AskEc2Within(size_t round) {
    options_.imds->Get(
        "/latest/dynamic/instance-identity/document", ec2_deadline_,
        [self = weak_from_this(), round](const absl::StatusOr<std::string>& document) {
          if (const auto impl = self.lock()) impl->OnEc2Answer(document, round);
        },
        kEc2Rounds[round]);
  }

  void OnEc2Answer(const absl::StatusOr<std::string>& document, size_t round) {
    if (absl::IsDeadlineExceeded(document.status()) && round + 1 < std::size(kEc2Rounds) &&
        std::chrono::steady_clock::now() < ec2_deadline_ && !FindInSettings()) {
      AskEc2Within(round + 1);
      return;
    }
    const absl::StatusOr<std::string> region =
        document.ok() ? RegionOfInstance(*document) : document.status();
    if (region.ok()) {
      FinishWithMetadata(*region, kEc2Metadata);
      return;
    }
    Note(kEc2Metadata, region.status().message());
    LookAtSettings();
  }

  [[nodiscard]] std::optional<FoundRegion> FindInSettings() const {
    return FindRegionInSettings(options_.profile, options_.environment);
  }

  void LookAtSettings() {
    if (const std::optional<FoundRegion> setting = FindInSettings()) {
      FinishWithSetting(setting->name, setting->source);
      return;
    }
    Note("AWS_DEFAULT_REGION", "not set");
    const std::string name = SharedProfile::FindName(options_.profile, options_.environment);
    const absl::StatusOr<SharedProfile> profile = LoadProfile(name, options_.environment);
    Note(fmt::format("profile \"{}\"", name),
         profile.ok() ? absl::string_view("has no region") : profile.status().message());
    // The daemon's sentences, which people look for.
    const std::string cause =
        "Cannot fetch region variable from config file, environment variables, ecs metadata, or "
        "ec2 metadata.";
    Finish(absl::FailedPreconditionError(
        options_.of_daemon
            ? fmt::format("{} Use local-mode to use the local config region. Looked at: {}", cause,
                          notes_)
            : fmt::format("{} Looked at: {}. {}", cause, notes_, kRegionHelp)));
  }

  void Note(std::string_view place, absl::string_view said) {
    notes_ += fmt::format("{}{} ({})", notes_.empty() ? "" : "; ", place, std::string(said));
  }

  // For what somebody set: it must be a region.
  void FinishWithSetting(const std::string& region, const std::string& source) {
    if (IsAwsRegion(region)) {
      Finish(FoundRegion{region, source});
    } else {
      Finish(
          absl::InvalidArgumentError(fmt::format("{}: \"{}\" is no AWS region", source, region)));
    }
  }
  void FinishWithMetadata(const std::string& region, std::string_view source) {
    Finish(FoundRegion{region, std::string(source)});
  }

  // Always the last thing a function does: the callback may destroy this.
  void Finish(const absl::StatusOr<FoundRegion>& region) {
    const Done done = std::exchange(done_, nullptr);
    done(region);
  }

  IoLoop* const loop_;
  const Options options_;
  Time deadline_ = kTimeNever;
  Time ec2_deadline_ = kTimeNever;
  Done done_;
  std::string notes_;  // what each place said
  std::unique_ptr<RetryingClient> ecs_;
};

RegionFinder::RegionFinder(IoLoop* loop, Options options)
    : impl_(std::make_shared<Impl>(loop, std::move(options))) {}
RegionFinder::~RegionFinder() = default;

void RegionFinder::Find(Time deadline, Done done) { impl_->Find(deadline, std::move(done)); }

}  // namespace mobula
