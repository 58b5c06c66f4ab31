// Recursive descent over the tokens, straight into tests: a part of an expression is the range of its tests
// plus the exits that still lead nowhere, which AND, OR and NOT connect.
// Tested by tests/unit/engine/filter/filter_parser_test.cc.
#include "engine/filter/filter_parser.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/filter/filter_lexer.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr size_t kCharactersMax = 2000;
constexpr size_t kTestsMax = 200;
constexpr int kDepthMax = 50;

enum class ValueType : uint8_t { kBool, kNumber, kString, kAny };

struct Keyword {
  std::string_view name;
  FilterField field;
  ValueType type;
};

constexpr std::array<Keyword, 17> kKeywords = {{
    {"ok", FilterField::kOk, ValueType::kBool},
    {"error", FilterField::kError, ValueType::kBool},
    {"throttle", FilterField::kThrottle, ValueType::kBool},
    {"fault", FilterField::kFault, ValueType::kBool},
    {"responsetime", FilterField::kSpan, ValueType::kNumber},
    {"duration", FilterField::kSpan, ValueType::kNumber},
    {"http.status", FilterField::kHttpStatus, ValueType::kNumber},
    {"http.url", FilterField::kHttpUrl, ValueType::kString},
    {"http.method", FilterField::kHttpMethod, ValueType::kString},
    {"http.useragent", FilterField::kHttpUserAgent, ValueType::kString},
    {"http.clientip", FilterField::kHttpClientIp, ValueType::kString},
    {"user", FilterField::kUser, ValueType::kString},
    {"name", FilterField::kName, ValueType::kString},
    {"type", FilterField::kOrigin, ValueType::kString},
    {"origin", FilterField::kOrigin, ValueType::kString},
    {"account", FilterField::kAccount, ValueType::kString},
    {"source", FilterField::kSource, ValueType::kString},
}};

// Words of the language that say something about a whole trace, or about what the scanner does not read.
constexpr std::array<std::string_view, 8> kTraceWords = {
    "partial", "inferred", "root", "first", "last", "remote", "index", "coverage"};
constexpr std::array<std::string_view, 5> kUnreadWords = {"availabilityzone", "instance.id",
                                                          "resource.arn", "message", "json"};

struct Operator {
  std::string_view name;
  FilterOperator op;
};

constexpr std::array<Operator, 9> kOperators = {{{"=", FilterOperator::kEqual},
                                                 {"!=", FilterOperator::kNotEqual},
                                                 {"<", FilterOperator::kLess},
                                                 {"<=", FilterOperator::kLessOrEqual},
                                                 {">", FilterOperator::kGreater},
                                                 {">=", FilterOperator::kGreaterOrEqual},
                                                 {"CONTAINS", FilterOperator::kContains},
                                                 {"BEGINSWITH", FilterOperator::kBeginsWith},
                                                 {"ENDSWITH", FilterOperator::kEndsWith}}};

bool IsEquality(FilterOperator op) {
  return op == FilterOperator::kEqual || op == FilterOperator::kNotEqual;
}
bool IsOrder(FilterOperator op) {
  return op >= FilterOperator::kLess && op <= FilterOperator::kGreaterOrEqual;
}

bool Allows(ValueType type, FilterOperator op) {
  switch (type) {
    case ValueType::kBool:
      return IsEquality(op);
    case ValueType::kNumber:
      return IsEquality(op) || IsOrder(op);
    case ValueType::kString:
      return !IsOrder(op);
    case ValueType::kAny:
      return true;
  }
  return false;
}

template <size_t N>
bool IsOneOf(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view candidate) { return SameWord(candidate, word); });
}

class Parser {
 public:
  Parser(std::string_view text, std::vector<FilterToken> tokens)
      : text_(text), tokens_(std::move(tokens)) {}

  absl::StatusOr<std::vector<FilterTest>> Run() {
    if (Is(FilterTokenKind::kEnd)) return Fail(Token(), "the expression is empty");
    ASSIGN_OR_RETURN(const Part part, Expression());
    if (!Is(FilterTokenKind::kEnd)) return FailAtSymbol();
    Lead(part.if_true, kFilterMatch);
    Lead(part.if_false, kFilterNoMatch);
    return std::move(tests_);
  }

 private:
  // One of the two ways out of a test.
  struct Exit {
    uint16_t test;
    bool answer;
  };
  using Exits = std::vector<Exit>;

  // Part of the expression; its first test is the one it begins with.
  struct Part {
    uint16_t begin;
    Exits if_true;
    Exits if_false;
  };

  [[nodiscard]] const FilterToken& Token() const { return tokens_[at_]; }
  [[nodiscard]] bool Is(FilterTokenKind kind) const { return Token().kind == kind; }
  [[nodiscard]] bool IsMark(std::string_view mark) const {
    return Is(FilterTokenKind::kMark) && Token().symbol == mark;
  }
  [[nodiscard]] bool IsWord(std::string_view word) const {
    return Is(FilterTokenKind::kWord) && SameWord(Token().symbol, word);
  }
  bool Take(bool is_there) {
    if (is_there) ++at_;
    return is_there;
  }

  absl::Status Fail(const FilterToken& token, std::string_view what) const {
    return FilterErrorAt(text_, token.offset, what);
  }

  absl::Status FailAtSymbol() const {
    if (Is(FilterTokenKind::kEnd)) return Fail(Token(), "unexpected end of expression");
    return Fail(Token(), fmt::format("Invalid input symbol: '{}'", Token().symbol));
  }

  absl::Status Expect(std::string_view mark) {
    if (Take(IsMark(mark))) return absl::OkStatus();
    if (Is(FilterTokenKind::kEnd)) {
      return Fail(Token(), fmt::format("missing '{}' at end of expression", mark));
    }
    return FailAtSymbol();
  }

  void Lead(const Exits& exits, uint16_t to) {
    for (const Exit& exit : exits) {
      (exit.answer ? tests_[exit.test].on_true : tests_[exit.test].on_false) = to;
    }
  }

  static void Append(Exits* to, const Exits& from) {
    to->insert(to->end(), from.begin(), from.end());
  }

  Part And(Part left, Part right) {
    Lead(left.if_true, right.begin);
    left.if_true = std::move(right.if_true);
    Append(&left.if_false, right.if_false);
    return left;
  }

  Part Or(Part left, Part right) {
    Lead(left.if_false, right.begin);
    left.if_false = std::move(right.if_false);
    Append(&left.if_true, right.if_true);
    return left;
  }

  absl::StatusOr<Part> Test(FilterTest test) {
    if (tests_.size() >= kTestsMax) {
      return Fail(Token(), fmt::format("more than {} conditions", kTestsMax));
    }
    const auto index = static_cast<uint16_t>(tests_.size());
    tests_.push_back(std::move(test));
    return Part{index, {{index, true}}, {{index, false}}};
  }

  absl::StatusOr<Part> Expression() {
    ASSIGN_OR_RETURN(Part part, AndList());
    while (Take(IsWord("or"))) {
      ASSIGN_OR_RETURN(Part next, AndList());
      part = Or(std::move(part), std::move(next));
    }
    return part;
  }

  // Two terms side by side mean AND.
  absl::StatusOr<Part> AndList() {
    ASSIGN_OR_RETURN(Part part, Unary());
    while (Take(IsWord("and")) || BeginsTerm()) {
      ASSIGN_OR_RETURN(Part next, Unary());
      part = And(std::move(part), std::move(next));
    }
    return part;
  }

  [[nodiscard]] bool BeginsTerm() const {
    if (Is(FilterTokenKind::kWord)) return !IsWord("or");
    return Is(FilterTokenKind::kKey) || IsMark("(") || IsMark("!");
  }

  absl::StatusOr<Part> Unary() {
    bool negated = false;
    while (Take(IsMark("!") || IsWord("not"))) negated = !negated;
    ASSIGN_OR_RETURN(Part part, Primary());
    if (negated) std::swap(part.if_true, part.if_false);
    return part;
  }

  absl::StatusOr<Part> Primary() {
    if (Take(IsMark("("))) return Enclosed(")");
    if (Is(FilterTokenKind::kKey)) {
      FilterTest test;
      test.field = FilterField::kAnnotation;
      test.key = Token().text;
      ++at_;
      return Condition(std::move(test), ValueType::kAny);
    }
    if (!Is(FilterTokenKind::kWord)) return FailAtSymbol();
    const FilterToken& word = Token();
    if (IsWord("service") && SelectorFollows()) return Service();
    for (const Keyword& keyword : kKeywords) {
      if (!SameWord(keyword.name, word.symbol)) continue;
      ++at_;
      FilterTest test;
      test.field = keyword.field;
      return Condition(std::move(test), keyword.type);
    }
    return FailAtUnusableWord();
  }

  // Between a mark already taken and `close`.
  absl::StatusOr<Part> Enclosed(std::string_view close) {
    if (++depth_ > kDepthMax) return Fail(Token(), fmt::format("nested deeper than {}", kDepthMax));
    ASSIGN_OR_RETURN(Part part, Expression());
    --depth_;
    RETURN_IF_ERROR(Expect(close));
    return part;
  }

  [[nodiscard]] bool SelectorFollows() const {
    const FilterToken& next = tokens_[at_ + 1];
    return next.kind == FilterTokenKind::kMark && next.symbol == "(";
  }

  absl::Status FailAtUnusableWord() const {
    const FilterToken& word = Token();
    const auto begins_with = [&](std::string_view start) {
      return SameWord(word.symbol.substr(0, start.size()), start);
    };
    if (IsWord("edge") && SelectorFollows()) {
      return Fail(word, "edge(...) needs a whole trace and cannot be used in a route");
    }
    if (IsOneOf(kTraceWords, word.symbol) || begins_with("rootcause.") || begins_with("group.")) {
      return Fail(word,
                  fmt::format("{} needs a whole trace and cannot be used in a route", word.symbol));
    }
    if (IsOneOf(kUnreadWords, word.symbol)) {
      return Fail(word, fmt::format("{} cannot be used in a route", word.symbol));
    }
    return FailAtSymbol();
  }

  // service(...) {...} asks for a segment of a node; a document is the only segment there is.
  absl::StatusOr<Part> Service() {
    if (in_body_) return Fail(Token(), "service(...) inside a body");
    at_ += 2;
    FilterTest node;
    node.field = FilterField::kIsNode;
    ASSIGN_OR_RETURN(Part part, Test(std::move(node)));
    if (!IsMark(")")) {
      ASSIGN_OR_RETURN(Part named, Node());
      part = And(std::move(part), std::move(named));
    }
    RETURN_IF_ERROR(Expect(")"));
    if (!Take(IsMark("{"))) return part;
    in_body_ = true;
    ASSIGN_OR_RETURN(Part body, Enclosed("}"));
    in_body_ = false;
    return And(std::move(part), std::move(body));
  }

  absl::StatusOr<Part> Node() {
    if (Is(FilterTokenKind::kString)) return Equals(FilterField::kName);
    if (!Take(IsWord("id"))) return FailAtSymbol();
    RETURN_IF_ERROR(Expect("("));
    ASSIGN_OR_RETURN(Part part, IdPart());
    while (Take(IsMark(","))) {
      ASSIGN_OR_RETURN(Part next, IdPart());
      part = And(std::move(part), std::move(next));
    }
    RETURN_IF_ERROR(Expect(")"));
    return part;
  }

  absl::StatusOr<Part> IdPart() {
    constexpr std::array<std::pair<std::string_view, FilterField>, 3> kParts = {
        {{"name", FilterField::kName},
         {"type", FilterField::kOrigin},
         {"account.id", FilterField::kAccount}}};
    for (const auto& [name, field] : kParts) {
      if (!Take(IsWord(name))) continue;
      RETURN_IF_ERROR(Expect(":"));
      if (!Is(FilterTokenKind::kString)) return FailAtSymbol();
      return Equals(field);
    }
    return FailAtSymbol();
  }

  absl::StatusOr<Part> Equals(FilterField field) {
    FilterTest test;
    test.field = field;
    test.op = FilterOperator::kEqual;
    test.literal = Token().text;
    ++at_;
    return Test(std::move(test));
  }

  // What follows a keyword: an operator and a value, or nothing.
  absl::StatusOr<Part> Condition(FilterTest test, ValueType type) {
    const auto op = std::find_if(kOperators.begin(), kOperators.end(), [&](const Operator& o) {
      return (Is(FilterTokenKind::kOperator) || Is(FilterTokenKind::kWord)) &&
             SameWord(o.name, Token().symbol);
    });
    if (op == kOperators.end()) return Test(std::move(test));
    const FilterToken& written = Token();
    if (!Allows(type, op->op)) {
      return Fail(written, fmt::format("operator {} does not fit {}", written.symbol,
                                       tokens_[at_ - 1].symbol));
    }
    ++at_;
    test.op = op->op;
    ASSIGN_OR_RETURN(test.literal, Literal(type, op->op));
    return Test(std::move(test));
  }

  absl::StatusOr<FilterLiteral> Literal(ValueType type, FilterOperator op) {
    const FilterToken& token = Token();
    if (token.kind == FilterTokenKind::kEnd)
      return Fail(token, "missing value at end of expression");
    FilterLiteral literal;
    if (token.kind == FilterTokenKind::kNumber) {
      literal = token.number;
    } else if (token.kind == FilterTokenKind::kString) {
      literal = token.text;
    } else if (IsWord("true") || IsWord("false")) {
      literal = IsWord("true");
    } else {
      return Fail(
          token, fmt::format("Invalid input symbol: '{}'; text needs double quotes", token.symbol));
    }
    // A flag's word may stand in quotes.
    if (type == ValueType::kBool && token.kind == FilterTokenKind::kString) {
      if (SameWord(token.text, "true")) literal = true;
      if (SameWord(token.text, "false")) literal = false;
    }
    if (const std::string_view wanted = Misfit(type, op, literal); !wanted.empty()) {
      return Fail(token, fmt::format("expected {}, not {}", wanted, token.symbol));
    }
    ++at_;
    return literal;
  }

  // What should have stood there, or nothing. Text beside a number is let through, as X-Ray does: no match.
  static std::string_view Misfit(ValueType type, FilterOperator op, const FilterLiteral& literal) {
    const bool text = std::holds_alternative<std::string>(literal);
    const bool number = std::holds_alternative<double>(literal);
    const bool text_only = op >= FilterOperator::kContains || type == ValueType::kString;
    if (text_only) return text ? "" : "text in double quotes";
    if (type == ValueType::kBool) return text || number ? "true or false" : "";
    if (type == ValueType::kNumber) return text || number ? "" : "a number";
    return IsOrder(op) && !number ? "a number" : "";
  }

  const std::string_view text_;
  const std::vector<FilterToken> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  bool in_body_ = false;
  std::vector<FilterTest> tests_;
};

}  // namespace

absl::StatusOr<std::vector<FilterTest>> ParseDocumentFilter(std::string_view text) {
  if (text.size() > kCharactersMax) {
    return FilterErrorAt(text, kCharactersMax,
                         fmt::format("longer than {} characters", kCharactersMax));
  }
  ASSIGN_OR_RETURN(std::vector<FilterToken> tokens, LexFilter(text));
  return Parser(text, std::move(tokens)).Run();
}

}  // namespace mobula
