// The program of a filter and its run over one document.
// Tested by tests/unit/engine/filter/filter_test.cc.
#include "engine/filter/filter.h"

#include <cmath>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/filter/filter_parser.h"

namespace mobula {

struct Filter::Program {
  std::string text;
  std::vector<FilterTest> tests;
};

namespace {

AnnotationValue TextValue(std::string_view text) {
  return text.empty() ? AnnotationValue() : AnnotationValue(text);
}

// Doubles near today's epoch seconds have steps of 0.24 us: without rounding 1.2 s - 1.0 s is not 0.2 s.
AnnotationValue SpanValue(const SegmentFields& fields) {
  if (fields.in_progress || fields.start_time <= 0 || fields.end_time <= 0) return {};
  return std::round((fields.end_time - fields.start_time) * 1e6) / 1e6;
}

// An entity counts once: as a throttle, else a fault, else an error, else as ok.
AnnotationValue FieldValue(const FilterTest& test, const FilterSubject& subject) noexcept {
  if (test.field == FilterField::kSource) return TextValue(subject.source);
  if (test.field == FilterField::kAnnotation) return subject.scanner->Annotation(test.key);
  const SegmentFields& fields = subject.scanner->Fields();
  switch (test.field) {
    case FilterField::kOk:
      return !fields.throttle && !fields.fault && !fields.error;
    case FilterField::kError:
      return fields.error && !fields.throttle && !fields.fault;
    case FilterField::kThrottle:
      return fields.throttle;
    case FilterField::kFault:
      return fields.fault && !fields.throttle;
    case FilterField::kIsNode:
      return fields.type != "subsegment";
    case FilterField::kSpan:
      return SpanValue(fields);
    case FilterField::kHttpStatus:
      if (fields.http_status < 0) return {};
      return static_cast<double>(fields.http_status);
    case FilterField::kHttpUrl:
      return TextValue(fields.http_url);
    case FilterField::kHttpMethod:
      return TextValue(fields.http_method);
    case FilterField::kHttpUserAgent:
      return TextValue(fields.http_user_agent);
    case FilterField::kHttpClientIp:
      return TextValue(fields.http_client_ip);
    case FilterField::kUser:
      return TextValue(fields.user);
    case FilterField::kName:
      return TextValue(fields.name);
    case FilterField::kOrigin:
      return TextValue(fields.origin);
    case FilterField::kAccount:
      return TextValue(fields.account_id);
    case FilterField::kSource:
    case FilterField::kAnnotation:
      break;
  }
  return {};
}

template <class T>
bool Compare(FilterOperator op, const T& value, const T& literal) noexcept {
  switch (op) {
    case FilterOperator::kEqual:
      return value == literal;
    case FilterOperator::kNotEqual:
      return value != literal;
    case FilterOperator::kLess:
      return value < literal;
    case FilterOperator::kLessOrEqual:
      return value <= literal;
    case FilterOperator::kGreater:
      return value > literal;
    case FilterOperator::kGreaterOrEqual:
      return value >= literal;
    default:
      return false;
  }
}

bool CompareText(FilterOperator op, std::string_view value, std::string_view literal) noexcept {
  switch (op) {
    case FilterOperator::kContains:
      return value.find(literal) != value.npos;
    case FilterOperator::kBeginsWith:
      return value.substr(0, literal.size()) == literal;
    case FilterOperator::kEndsWith:
      return value.size() >= literal.size() &&
             value.substr(value.size() - literal.size()) == literal;
    default:
      return Compare(op, value, literal);
  }
}

// A value that is absent, or of another type than the literal, matches under no operator.
bool Holds(const FilterTest& test, const AnnotationValue& value) noexcept {
  if (test.op == FilterOperator::kIsSet) {
    const bool* flag = std::get_if<bool>(&value);
    return flag != nullptr ? *flag : value.index() != 0;
  }
  if (value.index() != test.literal.index()) return false;
  if (const bool* flag = std::get_if<bool>(&value)) {
    return Compare(test.op, *flag, std::get<bool>(test.literal));
  }
  if (const double* number = std::get_if<double>(&value)) {
    return Compare(test.op, *number, std::get<double>(test.literal));
  }
  if (const std::string_view* text = std::get_if<std::string_view>(&value)) {
    return CompareText(test.op, *text, std::get<std::string>(test.literal));
  }
  return false;
}

}  // namespace

Filter::Filter(std::unique_ptr<const Program> program) : program_(std::move(program)) {}
Filter::Filter(Filter&&) noexcept = default;
Filter& Filter::operator=(Filter&&) noexcept = default;
Filter::~Filter() = default;

absl::StatusOr<Filter> Filter::ParseForDocument(std::string_view text) {
  auto program = std::make_unique<Program>();
  ASSIGN_OR_RETURN(program->tests, ParseDocumentFilter(text));
  program->text = text;
  return Filter(std::move(program));
}

bool Filter::Matches(const FilterSubject& subject) const noexcept {
  uint16_t at = 0;
  while (at < kFilterMatch) {
    const FilterTest& test = program_->tests[at];
    at = Holds(test, FieldValue(test, subject)) ? test.on_true : test.on_false;
  }
  return at == kFilterMatch;
}

const std::string& Filter::text() const noexcept { return program_->text; }

}  // namespace mobula
