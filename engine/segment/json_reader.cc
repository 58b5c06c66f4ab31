// simdjson's DOM, copied into values of our own.
// Tested by tests/unit/engine/segment/json_reader_test.cc.
#include "engine/segment/json_reader.h"

#include <simdjson.h>

#include <algorithm>

namespace mobula {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kTextBytesMax = 1 << 20;
constexpr size_t kDepthMax = 64;
constexpr size_t kValuesMax = 10000;

std::string ToString(std::string_view text) { return std::string(text); }

// False when there are more values than allowed. The depth is the parser's, hence bounded.
bool Copy(const dom::element& from, JsonValue* to, size_t* values_left) {
  if ((*values_left)-- == 0) return false;
  switch (from.type()) {
    case dom::element_type::ARRAY:
      to->kind = JsonValue::Kind::kArray;
      for (const dom::element item : dom::array(from.get_array().value_unsafe())) {
        if (!Copy(item, &to->items.emplace_back(), values_left)) return false;
      }
      return true;
    case dom::element_type::OBJECT:
      to->kind = JsonValue::Kind::kObject;
      for (const dom::key_value_pair member : dom::object(from.get_object().value_unsafe())) {
        to->members.push_back({ToString(member.key), {}});
        if (!Copy(member.value, &to->members.back().value, values_left)) return false;
      }
      return true;
    case dom::element_type::STRING:
      to->kind = JsonValue::Kind::kString;
      to->string = ToString(from.get_string().value_unsafe());
      return true;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
      to->kind = JsonValue::Kind::kNumber;
      to->number = from.get_double().value_unsafe();
      return true;
    case dom::element_type::BOOL:
      to->kind = JsonValue::Kind::kBool;
      to->boolean = from.get_bool().value_unsafe();
      return true;
    case dom::element_type::NULL_VALUE:
      return true;
  }
  return true;
}

}  // namespace

const JsonValue* JsonValue::Find(std::string_view name) const noexcept {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [name](const JsonMember& member) { return member.name == name; });
  return found == members.end() ? nullptr : &found->value;
}

std::string_view JsonValue::FindString(std::string_view name) const noexcept {
  const JsonValue* const value = Find(name);
  return value == nullptr ? std::string_view() : value->string;
}

std::optional<JsonValue> ParseJson(std::string_view text) {
  if (text.size() > kTextBytesMax) return std::nullopt;
  dom::parser parser(kTextBytesMax);
  if (parser.allocate(std::max<size_t>(text.size(), 64), kDepthMax) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  dom::element root;
  if (parser.parse(text.data(), text.size()).get(root) != simdjson::SUCCESS) return std::nullopt;
  std::optional<JsonValue> value(std::in_place);
  size_t values_left = kValuesMax;
  if (!Copy(root, &*value, &values_left)) return std::nullopt;
  return value;
}

}  // namespace mobula
