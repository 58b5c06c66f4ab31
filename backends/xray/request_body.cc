// Tested by tests/unit/backends/xray/request_body_test.cc.
#include "backends/xray/request_body.h"

#include <array>
#include <cstring>
#include <string>

#include "backends/xray/json_escape.h"
#include "engine/segment/utf8.h"

namespace mobula {
namespace {

constexpr int kDocumentsMax = 50;
constexpr std::string_view kBegin = R"({"TraceSegmentDocuments":[)";
constexpr std::string_view kEnd = "]}";
constexpr size_t kBytesMax = BlockPool::kBlockBytesMax - kJsonEscapeSlack;
// Around each document: two quotes and a comma, which for the last one is unused.
constexpr size_t kAround = 3;

// The document as valid UTF-8: the bytes of the batch, or a repaired copy in `scratch`. Only what the
// scanner did not read can be in need of it.
std::string_view ValidText(const Batch& batch, size_t index, std::string* scratch) {
  const std::string_view document = batch.document(index);
  if (batch.entry(index).kind == DocumentKind::kJson || IsValidUtf8(document)) return document;
  scratch->resize(document.size() * kUtf8RepairGrowth);
  scratch->resize(RepairUtf8(document, scratch->data()));
  return *scratch;
}

char* Append(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace

RequestBody BuildRequestBody(const Batch& batch, DocumentSet documents, BlockPool* pool) {
  CHECK(documents != 0 && (documents & ~batch.all()) == 0);
  RequestBody body;
  std::string scratch;
  size_t size = kBegin.size() + kEnd.size();
  for (DocumentSet left = documents; left != 0 && Count(body.taken) < kDocumentsMax;
       left &= left - 1) {
    const auto index = static_cast<size_t>(std::countr_zero(left));
    const DocumentSet one = DocumentSet{1} << index;
    const size_t escaped = JsonEscapedSize(ValidText(batch, index, &scratch)) + kAround;
    if (size + escaped > kBytesMax) {
      if (body.taken != 0) break;
      body.outcome = RequestBody::Outcome::kTooLarge;
      body.taken = one;
      return body;
    }
    size += escaped;
    body.taken |= one;
  }

  body.block = pool->TryAcquire(size + kJsonEscapeSlack);
  if (!body.block) return body;
  char* out = Append(kBegin, body.block.data);
  ForEach(body.taken, [&](size_t index) {
    *out++ = '"';
    out = JsonEscape(ValidText(batch, index, &scratch), out);
    out = Append("\",", out);
  });
  out = Append(kEnd, out - 1);  // over the last comma
  body.size = static_cast<uint32_t>(out - body.block.data);
  DCHECK(body.size + 1 == size);
  body.outcome = RequestBody::Outcome::kBuilt;
  return body;
}

}  // namespace mobula
