// The body of PutTraceSegments, written into a block of the pool:
// {"TraceSegmentDocuments":["…","…"]}.
//
// Room:   warm.
// Errors: none but the outcomes: no room in the pool, or a document that fits into no request.
// Limits: 50 documents, 256 KiB with everything around them. What does not fit is left for the next
//         call.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/batch/batch.h"
#include "engine/memory/block_pool.h"

namespace mobula {

struct RequestBody {
  enum class Outcome : uint8_t { kBuilt, kNoMemory, kTooLarge };

  Outcome outcome = Outcome::kNoMemory;
  // The documents inside; with kTooLarge the one that fits nowhere.
  DocumentSet taken = 0;
  Block block;  // to be released by the caller
  uint32_t size = 0;

  [[nodiscard]] std::string_view text() const noexcept { return {block.data, size}; }
};

// REQUIRES: `documents` is a non-empty subset of the batch.
RequestBody BuildRequestBody(const Batch& batch, DocumentSet documents, BlockPool* pool);

}  // namespace mobula
