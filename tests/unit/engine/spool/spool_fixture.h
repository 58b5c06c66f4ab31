// What the spool's tests share: batches to append, and a spool's content read back.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "engine/spool/spool.h"
#include "tests/support/fake_spool_disk.h"

namespace mobula {

inline constexpr SystemTime kNow{std::chrono::seconds(1'800'000'000)};

class SpoolFixture : public ::testing::Test {
 protected:
  BatchRef MakeBatch(const std::vector<std::string>& documents,
                     DocumentKind kind = DocumentKind::kJson) {
    for (const std::string& document : documents) {
      EXPECT_TRUE(builder_.Add(document, kind, RejectReason::kNone, Time()));
    }
    return builder_.Close();
  }

  // Text that does not shrink: sizes on disk are then what they seem.
  static std::string Noise(size_t size, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string text(size, ' ');
    for (char& c : text) c = static_cast<char>(random());
    return text;
  }

  Spool::Options DefaultOptions() {
    Spool::Options options;
    options.path = "/spool";
    options.fsync = Spool::Fsync::kNever;
    options.seed = ++seed_;
    return options;
  }

  std::unique_ptr<Spool> OpenSpool() { return OpenSpool(DefaultOptions()); }
  std::unique_ptr<Spool> OpenSpool(const Spool::Options& options) {
    return OpenSpool(options, {{"prod", "xray eu"}, {"audit", "xray us"}});
  }
  std::unique_ptr<Spool> OpenSpool(const Spool::Options& options,
                                   const std::vector<SpoolTarget>& targets) {
    auto spool = Spool::Open(options, targets, disk(), log_.get(), now_);
    EXPECT_TRUE(spool.ok()) << spool.status();
    return *std::move(spool);
  }
  virtual SpoolDisk* disk() { return &disk_; }

  absl::Status Append(SpoolLane* lane, const std::vector<std::string>& documents) {
    const BatchRef batch = MakeBatch(documents);
    return lane->Append(*batch, batch->all(), now_);
  }

  static std::vector<std::string> Remaining(const SpooledFrame& frame) {
    std::vector<std::string> documents;
    ForEach(frame.remaining, [&](size_t i) { documents.emplace_back(frame.documents[i].bytes); });
    return documents;
  }

  // Takes and finishes all there is.
  std::vector<std::string> Drain(SpoolLane* lane) {
    std::vector<std::string> all;
    while (std::optional<SpooledFrame> frame = lane->Next(now_)) {
      for (std::string& document : Remaining(*frame)) all.push_back(std::move(document));
      lane->Done(frame->token);
    }
    ExpectBalance(lane);
    EXPECT_FALSE(lane->waiting());
    return all;
  }

  static void ExpectBalance(const SpoolLane* lane) {
    const SpoolAccount& a = lane->account();
    EXPECT_EQ(a.appended.value() + a.restored.value(),
              a.done.value() + a.dropped_total() + a.held.value());
  }

  static uint64_t Dropped(const SpoolLane* lane, SpoolDropReason reason) {
    return lane->account().dropped[static_cast<size_t>(reason)].value();
  }

  // Paths whose end is `ending`.
  std::vector<std::string> Files(std::string_view ending) {
    std::vector<std::string> found;
    for (std::string& path : disk_.Paths()) {
      if (path.ends_with(ending)) found.push_back(std::move(path));
    }
    return found;
  }

  void Pass(Duration time) { now_ += std::chrono::duration_cast<SystemTime::duration>(time); }

  FakeSpoolDisk disk_;
  SystemTime now_ = kNow;
  std::string lines_;
  std::unique_ptr<Log> log_ = [this] {
    Log::Options options;
    options.level = LogLevel::kDebug;
    options.format = LogFormat::kJson;  // with the events' names
    return Log::ForTesting(&lines_, options, {});
  }();

 private:
  uint64_t seed_ = 0;
  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(16U << 20);
  BatchBuilder builder_{pool_.get(), {}};
};

using Strings = std::vector<std::string>;

}  // namespace mobula
