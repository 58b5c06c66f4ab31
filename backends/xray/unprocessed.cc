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
    : batch_(batch), documents_(documents), unmatched_(documents) {}
UnprocessedMatcher::~UnprocessedMatcher() = default;

void UnprocessedMatcher::ReadIds() {
  if (known_ != nullptr) return;
  known_ = std::make_unique<Known[]>(batch_.size());
  SegmentScanner scanner(Validate::kJson, BatchBuilder::kDocumentBytesMax);
  std::string padded;
  ForEach(documents_, [&](size_t i) {
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
std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::FindFirst(DocumentSet among,
                                                                       F&& is_it) {
  ReadIds();
  DocumentSet alike = 0;
  ForEach(among, [&](size_t i) {
    if (is_it(known_[i])) alike |= DocumentSet{1} << i;
  });
  if ((alike & unmatched_) == 0) return std::nullopt;
  const auto index = static_cast<size_t>(std::countr_zero(alike & unmatched_));
  unmatched_ &= ~(DocumentSet{1} << index);
  return Match{index, alike, known_[index].trace_id};
}

std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::Find(std::string_view id) {
  if (id.empty()) return std::nullopt;
  auto match = FindFirst(documents_, [id](const Known& known) { return known.id == id; });
  if (match) named_ |= match->alike;
  return match;
}

std::optional<UnprocessedMatcher::Match> UnprocessedMatcher::FindWithoutId() {
  return FindFirst(documents_ & ~named_, [](const Known& known) { return !IsSegmentId(known.id); });
}

void JoinUnprocessed(
    const Batch& batch, DocumentSet documents, XrayAnswer* answer,
    absl::FunctionRef<void(const XrayAnswer::Unprocessed&, const UnprocessedMatcher::Match*)>
        tell) {
  UnprocessedMatcher matcher(batch, documents);
  const size_t count = answer->unprocessed.size();
  std::vector<std::optional<UnprocessedMatcher::Match>> matches;
  matches.reserve(count);
  for (const XrayAnswer::Unprocessed& entry : answer->unprocessed) {
    matches.push_back(matcher.Find(entry.id));
  }
  for (size_t i = 0; i < count; ++i) {
    const XrayAnswer::Unprocessed& entry = answer->unprocessed[i];
    std::optional<UnprocessedMatcher::Match>& match = matches[i];
    // "MissingId" of nobody is about a document in which nobody can read an id. What names neither a
    // document nor a reason is no entry.
    if (!match && !entry.code.empty()) match = matcher.FindWithoutId();
    tell(entry, match ? &*match : nullptr);
  }

  DocumentSet settled = 0;
  const auto settle = [&](DocumentSet which, Verdict verdict, const std::string& code) {
    ForEach(which & ~settled, [&](size_t i) {
      answer->result.documents.push_back({static_cast<uint8_t>(i), verdict, code});
    });
    settled |= which;
  };
  for (size_t i = 0; i < count; ++i) {
    const XrayAnswer::Unprocessed& entry = answer->unprocessed[i];
    if (matches[i] && entry.verdict != Verdict::kRefused) {
      settle(matches[i]->alike, entry.verdict, entry.code);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    if (matches[i]) {
      settle(DocumentSet{1} << matches[i]->index, Verdict::kRefused, answer->unprocessed[i].code);
    }
  }
  settle(matcher.named(), Verdict::kRetry, "");
}

}  // namespace mobula
