// Finds the documents that the entries of UnprocessedTraceSegments are about.
//
// Room:   warm, and rare.
// Errors: an entry without an id, or with one nobody sent, matches nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/batch/batch.h"

namespace mobula {

class SegmentScanner;

class UnprocessedMatcher {
 public:
  struct Match {
    size_t index;  // in the batch
    std::string trace_id;
  };

  // REQUIRES: `batch` lives as long as this object.
  UnprocessedMatcher(const Batch& batch, DocumentSet documents);
  ~UnprocessedMatcher();

  // The first document with this id that no earlier call answered: an id may be in a batch twice, as an
  // update in progress and complete.
  std::optional<Match> Find(std::string_view id);

 private:
  struct Known;

  const Batch& batch_;
  DocumentSet unmatched_;
  std::unique_ptr<Known[]> known_;  // made at the first Find, by index of the batch
};

}  // namespace mobula
