// The documents of the simulation: each is a function of its number, so that any copy can be judged to the byte.
//
// Room:   test.
// Limits: 150 bytes to 60,000.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/segment/document_kind.h"

namespace mobula::sim {

enum class Style : uint8_t {
  kPlain,
  kEscapes,     // full of quotes and backslashes
  kUpdate,      // with the id of the document before
  kHugeNumber,  // only the strict checker can read it
  kWithoutId,
  kOtlp,
  kOrdinary,  // shrinks as much as what applications send
};

struct Shape {
  Style style = Style::kPlain;
  uint8_t service = 0;  // the name of the segment: what routes ask for
  uint32_t size = 0;    // about
};

void WriteDocument(uint64_t number, const Shape& shape, std::string* out);
// The number of a document made here; of what was not, nothing or any number.
std::optional<uint64_t> NumberOf(std::string_view document);

// What the scanner finds it to be.
DocumentKind KindOf(Style style);
// The id that its sender gave it; empty when there is none.
std::string IdOf(uint64_t number, Style style);
// Whether the agent can find it again by its id.
inline bool HasReadableId(Style style) {
  return style != Style::kHugeNumber && style != Style::kWithoutId && style != Style::kOtlp;
}

}  // namespace mobula::sim
