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
    size_t index;       // in the batch
    DocumentSet alike;  // this one and the others of the call that the entry may be about as well
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
  // The documents with an id that Find was asked for.
  [[nodiscard]] DocumentSet named() const { return named_; }

 private:
  struct Known;

  void ReadIds();
  template <typename F>
  std::optional<Match> FindFirst(DocumentSet among, F&& is_it);

  const Batch& batch_;
  const DocumentSet documents_;
  DocumentSet unmatched_;
  DocumentSet named_ = 0;
  std::unique_ptr<Known[]> known_;  // made when first needed, by index of the batch
};

// Joins what an answer says of single documents to those of the call: result.documents. Tells every entry, with
// the document it is about, if there is one.
//
// Where documents share an id, as the forms of a segment in progress and complete do, or have none, an entry does not
// say which of them it is about. None of them may be lost for that, and X-Ray puts what it gets under the id it has:
// - One that is to be sent again: all of them are, in their order.
// - Fewer final refusals of an id than documents with it: the first of them, the older forms, count as refused; the
//   others are sent again, and what is refused then is told by its own answer.
void JoinUnprocessed(
    const Batch& batch, DocumentSet documents, XrayAnswer* answer,
    absl::FunctionRef<void(const XrayAnswer::Unprocessed&, const UnprocessedMatcher::Match*)> tell);

}  // namespace mobula
