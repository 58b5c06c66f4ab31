// The tokens of a filter expression.
//
// Room:   cold.
// Errors: InvalidArgument, "line L, position P: what is wrong".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mobula {

enum class FilterTokenKind : uint8_t {
  kWord,      // a keyword, selector or word operator: letters, digits, _ and dots
  kKey,       // an annotation: `text` is its key
  kString,    // `text` is decoded
  kNumber,    // `number`
  kOperator,  // = != < <= > >=
  kMark,      // ( ) { } , : !
  kEnd,
};

struct FilterToken {
  FilterTokenKind kind = FilterTokenKind::kEnd;
  std::string_view symbol;  // as written; of kEnd: empty
  std::string text;
  double number = 0;
  size_t offset = 0;  // of the first byte; of kEnd: of the last character
};

// All tokens of `text`; the last is a kEnd.
absl::StatusOr<std::vector<FilterToken>> LexFilter(std::string_view text);

// "line L, position P: what"; positions count characters.
absl::Status FilterErrorAt(std::string_view text, size_t offset, std::string_view what);

// The same ASCII letters in any case.
bool SameWord(std::string_view a, std::string_view b);

}  // namespace mobula
