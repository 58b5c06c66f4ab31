// A JSON text as a tree of values: for answers of far sides and other small texts that are read rarely.
//
// Room:   warm and cold: every value allocates. Documents go through SegmentScanner instead.
// Errors: nothing for what is no JSON, or over a limit.
// Limits: 1 MiB of text, depth 64, 10,000 values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobula {

struct JsonMember;

struct JsonValue {
  enum class Kind : uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };

  // The member of an object; null when this is no object or has none of that name.
  [[nodiscard]] const JsonValue* Find(std::string_view name) const noexcept;
  // The text of a member that is a string, else empty.
  [[nodiscard]] std::string_view FindString(std::string_view name) const noexcept;

  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  std::string string;
  std::vector<JsonValue> items;     // of an array
  std::vector<JsonMember> members;  // of an object, in the order of the text
};

struct JsonMember {
  std::string name;
  JsonValue value;
};

std::optional<JsonValue> ParseJson(std::string_view text);

}  // namespace mobula
