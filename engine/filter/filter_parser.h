// From the text of a filter to its program: tests of one field each, and where to go after either answer.
//
// Room:       cold.
// Invariants: a test only leads forward, so that a run ends after at most as many steps as there are tests.
// Errors:     InvalidArgument, "line L, position P: what is wrong", both counted from 1.
// Limits:     2,000 characters, 200 tests, depth 50.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

namespace mobula {

enum class FilterField : uint8_t {
  kOk,
  kError,
  kThrottle,
  kFault,
  kIsNode,  // a segment of its own, not an independent subsegment
  kSpan,
  kHttpStatus,
  kHttpUrl,
  kHttpMethod,
  kHttpUserAgent,
  kHttpClientIp,
  kUser,
  kName,
  kOrigin,
  kAccount,
  kSource,
  kAnnotation,
};

enum class FilterOperator : uint8_t {
  kIsSet,  // no operator: true, or present
  kEqual,
  kNotEqual,
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kContains,
  kBeginsWith,
  kEndsWith,
};

// The alternatives of AnnotationValue, in its order.
using FilterLiteral = std::variant<std::monostate, bool, double, std::string>;

// Where a test leads when the answer is known.
inline constexpr uint16_t kFilterMatch = 0xfffe;
inline constexpr uint16_t kFilterNoMatch = 0xffff;

struct FilterTest {
  FilterField field = FilterField::kOk;
  FilterOperator op = FilterOperator::kIsSet;
  uint16_t on_true = kFilterMatch;
  uint16_t on_false = kFilterNoMatch;
  FilterLiteral literal;
  std::string key;  // of an annotation
};

// A filter to be judged on single documents; the run begins at the first test.
absl::StatusOr<std::vector<FilterTest>> ParseDocumentFilter(std::string_view text);

}  // namespace mobula
