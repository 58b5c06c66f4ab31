// A filter expression: X-Ray's language for choosing traces, here judged on one document.
// Grammar and keywords: docs/wire/filter.md, after the X-Ray developer guide.
//
// Room:      Parse is cold; Matches is hot: no allocation, bounded by the expression's size.
// Threads:   immutable after Parse; Matches may run on several threads at once.
// Errors:    Parse answers InvalidArgument with "line L, position P: what is wrong".
// Limits:    2,000 characters, 200 conditions, depth 50.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/segment/segment_scanner.h"

namespace mobula {

// One document as the filter sees it. The scanner must still hold the document.
struct FilterSubject {
  SegmentScanner* scanner;
  std::string_view
      source;  // the sender's address as text: "10.1.2.3", "fd00::7"; empty when unknown
};

class Filter {
 public:
  // Understands what can be judged on a single document: annotation.key and annotation[key], service("x"),
  // the http.* keywords, ok/error/fault/throttle, responsetime/duration, name, user, type, and Mobula's own
  // `origin`, `account`, `source`; AND, OR, NOT, ! and parentheses.
  static absl::StatusOr<Filter> ParseForDocument(std::string_view text);

  Filter(Filter&&) noexcept;
  Filter& operator=(Filter&&) noexcept;
  ~Filter();

  [[nodiscard]] bool Matches(const FilterSubject& subject) const noexcept;
  [[nodiscard]] const std::string& text() const noexcept;

 private:
  struct Program;
  explicit Filter(std::unique_ptr<const Program> program);
  std::unique_ptr<const Program> program_;
};

}  // namespace mobula
