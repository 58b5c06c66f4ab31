// Which documents of a call an answer of X-Ray is about: each at most once, of those that were asked for, and only one
// with that id. Documents are lines; behind an empty line come the ids that the answer names.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backends/xray/unprocessed.h"
#include "engine/batch/batch_builder.h"
#include "engine/memory/block_pool.h"
#include "engine/segment/json_reader.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"

namespace {

using mobula::Batch;
using mobula::DocumentSet;
using mobula::UnprocessedMatcher;

bool IsSegmentId(std::string_view id) {
  return id.size() == 16 && id.find_first_not_of("0123456789abcdefABCDEF") == id.npos;
}

// The document's id as another reader sees it; nothing when that is no question: no object, or several ids.
std::optional<std::string> IdOf(std::string_view document) {
  const auto json = mobula::ParseJson(document);
  if (!json || json->kind != mobula::JsonValue::Kind::kObject) return std::nullopt;
  int ids = 0;
  for (const auto& member : json->members) ids += member.name == "id" ? 1 : 0;
  if (ids > 1) return std::nullopt;
  return std::string(json->FindString("id"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto kPool = *mobula::BlockPool::Create(4U << 20);
  Input input(data, size);
  mobula::BatchBuilder builder(kPool.get(), {Batch::kDocumentsMax, std::chrono::seconds(1)});
  DocumentSet asked = (uint64_t{input.Byte()} << 8U | input.Byte()) * 0x0001000100010001;
  while (!input.empty() && builder.size() < Batch::kDocumentsMax) {
    const std::string_view document = input.Line();
    if (document.empty()) break;
    if (document.size() > mobula::BatchBuilder::kDocumentBytesMax) return 0;
    if (!builder.Add(document, mobula::DocumentKind::kJson, mobula::RejectReason::kNone,
                     mobula::Time())) {
      break;
    }
  }
  if (builder.empty()) return 0;
  const mobula::BatchRef batch = builder.Close();
  asked &= batch->all();

  UnprocessedMatcher matcher(*batch, asked);
  DocumentSet left = asked;
  const auto take = [&](const UnprocessedMatcher::Match& match) {
    EXPECT(match.index < batch->size());
    const DocumentSet bit = DocumentSet{1} << match.index;
    EXPECT((left & bit) != 0);
    left &= ~bit;
    return IdOf(batch->document(match.index));
  };
  while (!input.empty()) {
    const std::string_view id = input.Line();
    const DocumentSet before = left;
    if (const auto match = matcher.Find(id)) {
      const auto found = take(*match);
      if (found) EXPECT(*found == id);
    } else if (!id.empty()) {
      mobula::ForEach(before, [&](size_t i) {
        const auto other = IdOf(batch->document(i));
        // What the scanner does not read as a document has no id for it either.
        if (other && IsSegmentId(*other)) EXPECT(*other != id);
      });
    }
  }
  while (const auto match = matcher.FindWithoutId()) {
    const auto found = take(*match);
    if (found) EXPECT(!IsSegmentId(*found));
  }
  return 0;
}
