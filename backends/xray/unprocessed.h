// Finds the documents that the entries of UnprocessedTraceSegments are about.
//
// Room:   warm, and rare.
// Errors: an entry that can be about no document of the call matches nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "backends/xray/answer.h"
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
  // The first document that no earlier call answered and whose id cannot be told: it has none, or none of
  // 16 hex digits, or is no JSON. For entries with no id, or with one nobody sent; call it when Find was
  // asked for all others.
  std::optional<Match> FindWithoutId();

 private:
  struct Known;

  void ReadIds();
  template <typename F>
  std::optional<Match> FindFirst(F&& is_it);

  const Batch& batch_;
  DocumentSet unmatched_;
  std::unique_ptr<Known[]> known_;  // made when first needed, by index of the batch
};

// Joins what an answer says of single documents to those of the call: result.documents. Tells every entry, with
// the document it is about, if there is one.
void JoinUnprocessed(
    const Batch& batch, DocumentSet documents, XrayAnswer* answer,
    absl::FunctionRef<void(const XrayAnswer::Unprocessed&, const UnprocessedMatcher::Match*)> tell);

}  // namespace mobula
