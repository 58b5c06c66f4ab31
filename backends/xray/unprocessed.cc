// Tested by tests/unit/backends/xray/unprocessed_test.cc.
#include "backends/xray/unprocessed.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "engine/batch/batch_builder.h"
#include "engine/segment/segment_scanner.h"

namespace mobula {
namespace {

bool IsSegmentId(std::string_view id) {
  return id.size() == 16 && std::all_of(id.begin(), id.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

}  // namespace

struct UnprocessedMatcher::Known {
  std::string id;
  std::string trace_id;
};

UnprocessedMatcher::UnprocessedMatcher(const Batch& batch, DocumentSet documents)
    : batch_(batch), unmatched_(documents) {}
UnprocessedMatcher::~UnprocessedMatcher() = default;

void UnprocessedMatcher::ReadIds() {
  if (known_ != nullptr) return;
  known_ = std::make_unique<Known[]>(batch_.size());
  SegmentScanner scanner(Validate::kJson, BatchBuilder::kDocumentBytesMax);
  std::string padded;
  ForEach(unmatched_, [&](size_t i) {
    const std::string_view document = batch_.document(i);
    if (document.empty()) return;
    padded.assign(document);
    padded.resize(document.size() + kScanPadding);
    const ScanResult scanned = scanner.Scan({padded.data(), document.size()});
    if (scanned.reject != RejectReason::kNone || scanned.kind != DocumentKind::kJson) return;
    const SegmentFields& fields = scanner.Fields();
    known_[i] = {std::string(fields.id), std::string(fields.trace_id)};
  });
}

template <typename F>
std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::FindFirst(F&& is_it) {
  ReadIds();
  for (DocumentSet left = unmatched_; left != 0; left &= left - 1) {
    const auto index = static_cast<size_t>(std::countr_zero(left));
    if (!is_it(known_[index])) continue;
    unmatched_ &= ~(DocumentSet{1} << index);
    return Match{index, known_[index].trace_id};
  }
  return std::nullopt;
}

std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::Find(std::string_view id) {
  if (id.empty()) return std::nullopt;
  return FindFirst([id](const Known& known) { return known.id == id; });
}

std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::FindWithoutId() {
  return FindFirst([](const Known& known) { return !IsSegmentId(known.id); });
}

void JoinUnprocessed(
    const Batch& batch, DocumentSet documents, XrayAnswer* answer,
    absl::FunctionRef<void(const XrayAnswer::Unprocessed&, const UnprocessedMatcher::Match*)>
        tell) {
  UnprocessedMatcher matcher(batch, documents);
  std::vector<std::optional<UnprocessedMatcher::Match>> matches;
  for (const XrayAnswer::Unprocessed& entry : answer->unprocessed) {
    matches.push_back(matcher.Find(entry.id));
  }
  for (size_t i = 0; i < matches.size(); ++i) {
    const XrayAnswer::Unprocessed& entry = answer->unprocessed[i];
    std::optional<UnprocessedMatcher::Match>& match = matches[i];
    // "MissingId" of nobody is about a document in which nobody can read an id. What names neither a
    // document nor a reason is no entry.
    if (!match && !entry.code.empty()) match = matcher.FindWithoutId();
    tell(entry, match ? &*match : nullptr);
    if (!match) continue;
    answer->result.documents.push_back(
        {static_cast<uint8_t>(match->index), entry.verdict, entry.code});
  }
}

}  // namespace mobula
