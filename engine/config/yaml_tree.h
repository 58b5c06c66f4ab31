// YAML text as a plain tree with positions; aliases are copied in and merge keys (`<<`) already
// merged.
//
// Room:   cold. The one door to yaml-cpp.
// Errors: InvalidArgument, "line:col: what is wrong".
// Limits: depth 50, 10,000 nodes and 4 MiB of text after aliases are expanded; one document.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mobula {

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kMap, kList };
  enum class Source : uint8_t { kText, kEnvironment, kFlag };

  Kind kind = Kind::kNull;
  Source source = Source::kText;  // the others are put in by engine/config/overrides.h
  std::string origin;             // of those, for people: "MOBULA_LOG_LEVEL", "--set"
  bool quoted = false;  // a scalar that is text whatever it looks like: in quotes, or a block
  int line = 0;         // from 1; 0: nowhere in the text
  int column = 0;
  std::string text;                // of a scalar, and of a null that was spelled out ("null", "~")
  std::vector<YamlNode> children;  // of a map or a list

  // Of a map's child.
  std::string key;
  int key_line = 0;
  int key_column = 0;

  [[nodiscard]] const YamlNode* Find(std::string_view name) const;
};

// A text without any node is a kNull.
absl::StatusOr<YamlNode> ParseYamlTree(std::string_view text);

}  // namespace mobula
