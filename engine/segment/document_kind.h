// What the scanner found a document to be; travels with it in the batch.
#pragma once

#include <cstdint>

namespace mobula {

enum class DocumentKind : uint8_t {
  kJson,       // well-formed, indexed by simdjson: routes with `when` see its fields
  kUnscanned,  // well-formed by the strict checker only (huge number, lone surrogate, great depth)
  kOtlp,       // T1S / T1U and base64: passed on unread
  kRaw,        // `validate: off`: nobody looked
  kRejected,   // only in dead-letter batches
};

}  // namespace mobula
