#include "backends/null/null_exporter.h"

#include "engine/batch/batch_builder.h"
#include "gtest/gtest.h"

namespace mobula {
namespace {

TEST(NullExporterTest, EveryCallIsDeliveredAtOnce) {
  const auto pool = BlockPool::Create(1U << 20);
  ASSERT_TRUE(pool.ok());
  BatchBuilder builder(pool->get(), {});
  ASSERT_TRUE(builder.Add("{}", DocumentKind::kJson, RejectReason::kNone, Time()));
  const BatchRef batch = builder.Close();
  const auto exporter = MakeNullExporter();
  ASSERT_TRUE(exporter->Start(nullptr).ok());
  int calls = 0;
  exporter->Export({*batch, batch->all(), kTimeNever, 1}, [&](ExportResult result) {
    ++calls;
    EXPECT_EQ(result.verdict, Verdict::kDelivered);
    EXPECT_EQ(result.taken, 0U);
    EXPECT_TRUE(result.documents.empty());
  });
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(exporter->Shutdown().ok());
}

}  // namespace
}  // namespace mobula
