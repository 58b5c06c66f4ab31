// Batches made of texts.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/batch/batch_builder.h"

namespace mobula::testing {

class BatchFixture : public ::testing::Test {
 protected:
  BatchRef MakeBatch(const std::vector<std::string>& documents,
                     DocumentKind kind = DocumentKind::kJson) {
    BatchBuilder builder(pool_.get(), {.documents = Batch::kDocumentsMax});
    for (const std::string& document : documents) {
      EXPECT_TRUE(builder.Add(document, kind, RejectReason::kNone, Time()));
    }
    BatchRef batch = builder.Close();
    EXPECT_TRUE(batch);
    return batch;
  }

  static std::string Segment(const std::string& id, const std::string& more = "") {
    return R"({"trace_id":"1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f","id":")" + id +
           R"(","name":"test","start_time":1.5,"end_time":2)" + more + "}";
  }

  std::unique_ptr<BlockPool> pool_ = *BlockPool::Create(4 << 20);
};

}  // namespace mobula::testing
