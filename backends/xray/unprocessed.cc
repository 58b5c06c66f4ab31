// Tested by tests/unit/backends/xray/unprocessed_test.cc.
#include "backends/xray/unprocessed.h"

#include <cstring>

#include "engine/segment/segment_scanner.h"

namespace mobula {

struct UnprocessedMatcher::Known {
  std::string id;
  std::string trace_id;
};

UnprocessedMatcher::UnprocessedMatcher(const Batch& batch, DocumentSet documents)
    : batch_(batch), unmatched_(documents) {}
UnprocessedMatcher::~UnprocessedMatcher() = default;

std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::Find(std::string_view id) {
  if (id.empty()) return std::nullopt;
  if (known_ == nullptr) {
    known_ = std::make_unique<Known[]>(batch_.size());
    SegmentScanner scanner(Validate::kJson);
    std::string padded;
    ForEach(unmatched_, [&](size_t i) {
      const std::string_view document = batch_.document(i);
      if (document.empty() || document.size() > kDocumentBytesMax) return;
      padded.assign(document);
      padded.resize(document.size() + kScanPadding);
      const ScanResult scanned = scanner.Scan({padded.data(), document.size()});
      if (scanned.reject != RejectReason::kNone || scanned.kind != DocumentKind::kJson) return;
      const SegmentFields& fields = scanner.Fields();
      known_[i] = {std::string(fields.id), std::string(fields.trace_id)};
    });
  }
  for (DocumentSet left = unmatched_; left != 0; left &= left - 1) {
    const auto index = static_cast<size_t>(std::countr_zero(left));
    if (known_[index].id != id) continue;
    unmatched_ &= ~(DocumentSet{1} << index);
    return Match{index, known_[index].trace_id};
  }
  return std::nullopt;
}

}  // namespace mobula
