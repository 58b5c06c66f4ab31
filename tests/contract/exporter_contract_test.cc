// What every Exporter promises (engine/delivery/exporter.h), asked of every backend in every format.
#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <random>
#include <utility>

#include "engine/base/log.h"
#include "engine/batch/batch_builder.h"
#include "engine/http/io_loop.h"
#include "gtest/gtest.h"
#include "tests/contract/far_side.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllBackends;
using testing::Backend;

Time Now() { return std::chrono::steady_clock::now(); }

// An exporter is late only when a call's `done` comes later than that after the deadline.
constexpr Duration kLateness = seconds(2);
constexpr Duration kForever = seconds(20);

// One Export and what became of it.
struct Call {
  DocumentSet documents = 0;
  int done = 0;
  ExportResult result;

  // The documents that are delivered.
  [[nodiscard]] DocumentSet Delivered() const {
    const DocumentSet taken = result.taken == 0 ? documents : result.taken;
    DocumentSet delivered = result.verdict == Verdict::kDelivered ? taken : 0;
    for (const DocumentVerdict& one : result.documents) {
      const DocumentSet bit = DocumentSet{1} << one.index;
      delivered = one.verdict == Verdict::kDelivered ? delivered | bit : delivered & ~bit;
    }
    return delivered;
  }
};

class ExporterContractTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);  // as the program does
    auto pool = BlockPool::Create(16U << 20);
    ASSERT_TRUE(pool.ok());
    pool_ = *std::move(pool);
    far_side_ = GetParam().far_side();
    exporter_ = far_side_->Make({.pool = pool_.get(), .log = log_.get()});
    ASSERT_NE(exporter_, nullptr);
  }
  void TearDown() override {
    far_side_->Work();
    exporter_.reset();
    EXPECT_EQ(pool_->bytes_used(), held_) << "a block was not given back";
  }
  void Start() { ASSERT_TRUE(exporter_->Start(&loop_).ok()); }

  // A document that no other is like, of about `size` bytes.
  std::string Document(size_t size) {
    ++documents_;
    const std::string head = fmt::format(
        "{{\"id\": \"{:016x}\",\r\n \"name\": \"caf\xc3\xa9 \\\"{}\\\"\\u0001 \\\\\", "
        "\"metadata\":\n\"",
        documents_, documents_);
    return head +
           std::string(size > head.size() ? size - head.size() : 0,
                       static_cast<char>('a' + documents_ % 26)) +
           "\"}";
  }
  std::vector<std::string> Documents(size_t count, size_t size = 300) {
    std::vector<std::string> documents;
    for (size_t i = 0; i < count; ++i) documents.push_back(Document(size));
    return documents;
  }
  BatchRef MakeBatch(const std::vector<std::string>& documents) {
    BatchBuilder builder(pool_.get(), {.documents = Batch::kDocumentsMax});
    for (const std::string& document : documents) {
      EXPECT_TRUE(builder.Add(document, DocumentKind::kJson, RejectReason::kNone, Now()));
    }
    BatchRef batch = builder.Close();
    EXPECT_TRUE(static_cast<bool>(batch));
    return batch;
  }

  std::shared_ptr<Call> Export(const Batch& batch, DocumentSet documents,
                               Duration time = kForever) {
    auto call = std::make_shared<Call>();
    call->documents = documents;
    exporter_->Export({batch, documents, Now() + time, 1}, [call](ExportResult result) {
      ++call->done;
      call->result = std::move(result);
    });
    return call;
  }
  // Turns the loop until the call is answered.
  void Wait(const Call& call) {
    const Time limit = Now() + kForever + kLateness;
    while (call.done == 0 && Now() < limit) loop_.RunUntil(Now() + milliseconds(1));
    EXPECT_EQ(call.done, 1);
    EXPECT_EQ(call.result.taken & ~call.documents, 0U) << "took what it was not given";
    for (const DocumentVerdict& one : call.result.documents) {
      EXPECT_NE(call.documents & DocumentSet{1} << one.index, 0U) << "judged what it was not given";
    }
    if (call.result.verdict != Verdict::kDelivered) {
      EXPECT_FALSE(call.result.code.empty());
      EXPECT_FALSE(call.result.message.empty());
    }
  }
  // Sends until everything is delivered, as Delivery does. Answers how many calls were not delivered.
  int Deliver(const Batch& batch, DocumentSet documents) {
    int failed = 0;
    for (int attempt = 0; documents != 0 && attempt < 200; ++attempt) {
      const std::shared_ptr<Call> call = Export(batch, documents);
      Wait(*call);
      documents &= ~call->Delivered();
      if (call->result.verdict != Verdict::kDelivered) {
        ++failed;
        EXPECT_NE(call->result.verdict, Verdict::kRefused) << call->result.message;
        far_side_->Work();
      }
    }
    EXPECT_EQ(documents, 0U) << "not delivered";
    return failed;
  }
  // Everything in `documents` is there once, and nothing else.
  void ExpectArrived(const std::vector<std::string>& documents) {
    if (!GetParam().keeps) return;
    std::map<std::string, int> counts;
    for (const std::string& document : documents) ++counts[far_side_->Expected(document)];
    for (const std::string& document : far_side_->Arrived()) --counts[document];
    for (const auto& [document, count] : counts) {
      EXPECT_EQ(count, 0) << (count > 0 ? "missing: " : "too many: ") << document.substr(0, 80);
    }
  }

  std::string lines_;
  std::unique_ptr<Log> log_ = Log::ForTesting(&lines_);
  std::unique_ptr<BlockPool> pool_;
  IoLoop loop_;
  std::unique_ptr<testing::FarSide> far_side_;
  std::unique_ptr<Exporter> exporter_;
  uint64_t documents_ = 0;
  size_t held_ = 0;  // bytes of the pool the test itself still holds at its end
};

class FailingFarSideTest : public ExporterContractTest {};
class HangingFarSideTest : public ExporterContractTest {};
// A build with one backend may have none that fails or hangs.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FailingFarSideTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HangingFarSideTest);

TEST_P(ExporterContractTest, DeliversABatchOnceAndWhole) {
  Start();
  const std::vector<std::string> documents = Documents(50);
  const BatchRef batch = MakeBatch(documents);
  const std::shared_ptr<Call> call = Export(*batch, batch->all());
  Wait(*call);
  EXPECT_EQ(call->result.verdict, Verdict::kDelivered) << call->result.message;
  EXPECT_EQ(call->Delivered(), batch->all());
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_EQ(call->done, 1);
  ExpectArrived(documents);
}

TEST_P(ExporterContractTest, DeliversBatchesOfEverySize) {
  Start();
  std::vector<std::string> all;
  for (const auto& [count, size] :
       {std::pair<size_t, size_t>{1, 1}, {1, 65'000}, {64, 400}, {3, 60'000}, {2, 5'000}}) {
    const std::vector<std::string> documents = Documents(count, size);
    const BatchRef batch = MakeBatch(documents);
    EXPECT_EQ(Deliver(*batch, batch->all()), 0);
    all.insert(all.end(), documents.begin(), documents.end());
    far_side_->Work();
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(all);
}

TEST_P(ExporterContractTest, DeliversOnlyTheDocumentsAskedFor) {
  Start();
  const std::vector<std::string> documents = Documents(64);
  const BatchRef batch = MakeBatch(documents);
  std::vector<std::string> expected;
  for (const DocumentSet set :
       {DocumentSet{1}, DocumentSet{1} << 63, DocumentSet{0x00f0'0000'0000'0ff0}}) {
    EXPECT_EQ(Deliver(*batch, set), 0);
    ForEach(set, [&](size_t i) { expected.push_back(documents[i]); });
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(expected);
}

TEST_P(ExporterContractTest, DeliversManyCallsInFlight) {
  Start();
  std::vector<std::string> all;
  std::vector<BatchRef> batches;
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 30; ++i) {
    const std::vector<std::string> documents = Documents(20);
    batches.push_back(MakeBatch(documents));
    calls.push_back(Export(*batches.back(), batches.back()->all()));
    all.insert(all.end(), documents.begin(), documents.end());
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    Wait(*calls[i]);
    EXPECT_EQ(calls[i]->result.verdict, Verdict::kDelivered) << calls[i]->result.message;
    Deliver(*batches[i], batches[i]->all() & ~calls[i]->Delivered());
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(all);
}

TEST_P(ExporterContractTest, ExportFromInsideDoneIsAllowed) {
  Start();
  const std::vector<std::string> documents = Documents(20);
  const BatchRef batch = MakeBatch(documents);
  int calls = 0;
  std::function<void(ExportResult)> next = [&](const ExportResult& result) {
    EXPECT_EQ(result.verdict, Verdict::kDelivered) << result.message;
    if (++calls < 20)
      exporter_->Export({*batch, DocumentSet{1} << calls, Now() + kForever, 1}, next);
  };
  exporter_->Export({*batch, 1, Now() + kForever, 1}, next);
  const Time limit = Now() + kForever;
  while (calls < 20 && Now() < limit) loop_.RunUntil(Now() + milliseconds(1));
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_EQ(calls, 20);
  ExpectArrived(documents);
}

TEST_P(FailingFarSideTest, AFailingFarSideIsToldAndLosesOrDoublesNothing) {
  Start();
  std::mt19937 random(20'250'101);
  std::vector<std::string> all;
  int failures = 0;
  int failed = 0;
  for (int round = 0; round < 60; ++round) {
    const std::vector<std::string> documents = Documents(1 + random() % 50, 100 + random() % 900);
    all.insert(all.end(), documents.begin(), documents.end());
    const BatchRef batch = MakeBatch(documents);
    if (random() % 2 == 0) {
      far_side_->Fail();
      ++failures;
    }
    failed += Deliver(*batch, batch->all());
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_GE(failed, failures);
  ExpectArrived(all);
}

TEST_P(HangingFarSideTest, KeepsTheDeadlineWhenTheFarSideHangs) {
  Start();
  const std::vector<std::string> documents = Documents(10);
  const BatchRef batch = MakeBatch(documents);
  far_side_->Hang();
  const Time begin = Now();
  const std::shared_ptr<Call> first = Export(*batch, batch->all(), milliseconds(50));
  const std::shared_ptr<Call> second = Export(*batch, 1, milliseconds(20));
  Wait(*first);
  Wait(*second);
  EXPECT_LT(Now() - begin, milliseconds(50) + kLateness);
  EXPECT_EQ(first->result.verdict, Verdict::kThrottled) << first->result.code;
  EXPECT_EQ(first->result.code, "timeout");
  EXPECT_EQ(first->Delivered(), 0U);
  EXPECT_EQ(second->Delivered(), 0U);
  far_side_->Work();
  Deliver(*batch, batch->all());
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(documents);
}

TEST_P(HangingFarSideTest, ShutdownAnswersWhatIsInFlight) {
  Start();
  const BatchRef batch = MakeBatch(Documents(10));
  far_side_->Hang();
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 5; ++i) calls.push_back(Export(*batch, batch->all()));
  loop_.RunUntil(Now() + milliseconds(20));
  EXPECT_TRUE(exporter_->Shutdown().ok());
  for (const std::shared_ptr<Call>& call : calls) {
    EXPECT_EQ(call->done, 1);
    EXPECT_EQ(call->result.verdict, Verdict::kRetry) << call->result.code;
    EXPECT_EQ(call->Delivered(), 0U);
  }
  // Nothing is answered a second time.
  loop_.RunUntil(Now() + milliseconds(20));
  for (const std::shared_ptr<Call>& call : calls) EXPECT_EQ(call->done, 1);
}

TEST_P(ExporterContractTest, TheBatchIsNotTouchedAfterDone) {
  Start();
  std::vector<std::string> all;
  for (int i = 0; i < 10; ++i) {
    const std::vector<std::string> documents = Documents(20);
    all.insert(all.end(), documents.begin(), documents.end());
    {
      const BatchRef batch = MakeBatch(documents);
      EXPECT_EQ(Deliver(*batch, batch->all()), 0);
    }
    // The block is free again: whoever still reads it reads this.
    std::vector<Block> blocks;
    while (const Block block = pool_->TryAcquire(BlockPool::kBlockBytesMax / 8)) {
      std::memset(block.data, 0xee, block.bytes);
      blocks.push_back(block);
    }
    for (const Block& block : blocks) pool_->Release(block);
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(all);
}

TEST_P(ExporterContractTest, ReopenBetweenCallsLosesNothing) {
  Start();
  std::vector<std::string> all;
  for (int i = 0; i < 5; ++i) {
    const std::vector<std::string> documents = Documents(5);
    const BatchRef batch = MakeBatch(documents);
    EXPECT_EQ(Deliver(*batch, batch->all()), 0);
    exporter_->Reopen();
    all.insert(all.end(), documents.begin(), documents.end());
  }
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived(all);
}

TEST_P(ExporterContractTest, ShutdownIsSafeWithoutStart) {
  EXPECT_TRUE(exporter_->Shutdown().ok());
}

TEST_P(ExporterContractTest, ShutdownIsSafeTwice) {
  Start();
  EXPECT_TRUE(exporter_->Shutdown().ok());
  EXPECT_TRUE(exporter_->Shutdown().ok());
}

TEST_P(ExporterContractTest, NothingArrivesWithoutAnExport) {
  Start();
  loop_.RunUntil(Now() + milliseconds(5));
  EXPECT_TRUE(exporter_->Shutdown().ok());
  ExpectArrived({});
}

std::vector<Backend> BackendsThat(bool Backend::*can) {
  std::vector<Backend> backends = AllBackends();
  std::erase_if(backends, [&](const Backend& backend) { return !(backend.*can); });
  return backends;
}
std::string NameOf(const ::testing::TestParamInfo<Backend>& backend) { return backend.param.name; }

INSTANTIATE_TEST_SUITE_P(Backends, ExporterContractTest, ::testing::ValuesIn(AllBackends()),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, FailingFarSideTest,
                         ::testing::ValuesIn(BackendsThat(&Backend::can_fail)), NameOf);
INSTANTIATE_TEST_SUITE_P(Backends, HangingFarSideTest,
                         ::testing::ValuesIn(BackendsThat(&Backend::can_hang)), NameOf);

}  // namespace
}  // namespace mobula
