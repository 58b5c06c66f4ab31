// What it costs to spool a batch and to read it back: 50 documents, files in TMPDIR, no fsync.
// Each frame is compared with what was appended before it is timed.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "engine/spool/crc32c.h"
#include "engine/spool/spool.h"

namespace mobula {
namespace {

constexpr SystemTime kNow{std::chrono::seconds(1'800'000'000)};

// A segment of about `size` bytes with random ids and times, as real ones have them.
std::string Document(size_t size, std::mt19937_64* random) {
  const auto id = [&] { return fmt::format("{:016x}", (*random)()); };
  const auto time = [&] { return fmt::format("1795370396.{:07}", (*random)() % 10'000'000); };
  std::string document =
      fmt::format(R"({{"id":"{}","name":"payments.example.com","start_time":{},"end_time":{},)"
                  R"("trace_id":"1-6b032d9c-{}{}","http":{{"request":{{"method":"GET",)"
                  R"("url":"http://10.0.0.7/api/orders/{}"}},"response":{{"status":200}}}})",
                  id(), time(), time(), id(), id().substr(0, 8), (*random)() % 100'000);
  while (document.size() + 250 < size) {
    document += fmt::format(
        R"(,"subsegments":[{{"id":"{}","name":"DynamoDB","namespace":"aws","start_time":{},)"
        R"("end_time":{},"aws":{{"operation":"GetItem","region":"eu-west-1"}}}}])",
        id(), time(), time());
  }
  document.resize(size - 1, ' ');
  return document + "}";
}

class SpoolBench : public benchmark::Fixture {
 public:
  void SetUp(benchmark::State& state) override {
    std::string name = (std::filesystem::temp_directory_path() / "spool-bench-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    pool_ = *BlockPool::Create(2U << 20);
    BatchBuilder builder(pool_.get(), {});
    std::mt19937_64 random(1);
    while (!builder.full()) {
      CHECK(builder.Add(Document(static_cast<size_t>(state.range(0)), &random), DocumentKind::kJson,
                        RejectReason::kNone, Time()));
    }
    batch_ = builder.Close();
    Spool::Options options;
    options.path = path_;
    options.bytes_max = 256U << 20;
    options.fsync = Spool::Fsync::kNever;
    spool_ = *Spool::Open(options, {{"prod", "xray"}}, PosixSpoolDisk(), log_.get(), kNow);
    lane_ = spool_->lane("prod");

    Append();
    state.counters["stored"] = static_cast<double>(lane_->account().bytes.value());
    const auto frame = lane_->Next(kNow);
    CHECK(frame.has_value() && frame->documents.size() == batch_->size());
    for (size_t i = 0; i < batch_->size(); ++i) {
      CHECK(frame->documents[i].bytes == batch_->document(i));
    }
    lane_->Done(frame->token);
  }

  void TearDown(benchmark::State&) override {
    batch_.Reset();
    spool_.reset();
    std::filesystem::remove_all(path_);
  }

 protected:
  void Append() { CHECK(lane_->Append(*batch_, batch_->all(), kNow).ok()); }

  std::string path_;
  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::unique_ptr<BlockPool> pool_;
  BatchRef batch_;
  std::unique_ptr<Spool> spool_;
  SpoolLane* lane_ = nullptr;
};

BENCHMARK_DEFINE_F(SpoolBench, Append)(benchmark::State& state) {
  for (auto _ : state) {
    Append();
    lines_.clear();
  }
  state.SetItemsProcessed(state.iterations() * 50);
}

BENCHMARK_DEFINE_F(SpoolBench, NextAndDone)(benchmark::State& state) {
  for (auto _ : state) {
    if (!lane_->waiting()) {
      state.PauseTiming();
      for (int i = 0; i < 2000; ++i) Append();
      state.ResumeTiming();
    }
    const auto frame = lane_->Next(kNow);
    lane_->Done(frame->token);
  }
  state.SetItemsProcessed(state.iterations() * 50);
}

BENCHMARK_REGISTER_F(SpoolBench, Append)->Arg(732)->Arg(2000);
BENCHMARK_REGISTER_F(SpoolBench, NextAndDone)->Arg(732)->Arg(2000);

void BM_Crc32c(benchmark::State& state, uint32_t (*crc)(std::string_view, uint32_t) noexcept) {
  const std::string bytes(8192, 'x');
  CHECK(crc(bytes, 0) == Crc32cByTable(bytes));
  for (auto _ : state) benchmark::DoNotOptimize(crc(bytes, 0));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes.size()));
}

BENCHMARK_CAPTURE(BM_Crc32c, instruction, Crc32c);
BENCHMARK_CAPTURE(BM_Crc32c, table, Crc32cByTable);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
