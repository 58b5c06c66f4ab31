// The table of everything a configuration can say: one row per option, from which the loader, the
// JSON schema and the page of options are made.
//
// Room: cold.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/config/config.h"

namespace mobula {

enum class OptionKind : uint8_t {
  kText,
  kChoice,  // one of `words`
  kNumber,
  kSize,
  kDuration,
  kAddress,
  kUrl,
  kRegion,
  kFilter,
  kBackendNames,  // a list; each name is set on its own
};

// What is being filled in. `backend` and `route` are set inside `backends.*` and `routes[]`.
struct OptionTarget {
  Config* config;
  BackendConfig* backend = nullptr;
  RouteConfig* route = nullptr;
};

struct Option {
  std::string_view path;          // "backends.*.path", "routes[].to"
  std::string_view backend_type;  // the only type that has it; empty: no backend's, or every one's
  OptionKind kind;
  std::vector<std::string_view> words;  // accepted beside what the kind says
  uint64_t min = 0;                     // bounds of numbers, bytes, nanoseconds
  uint64_t max = 0;
  std::string default_text;  // empty: none
  bool required = false;
  std::string_view help;
  // Sets the value `text` stands for. A message, if there is one, says what is wrong; without one
  // the text is simply not what Expectation says.
  std::function<absl::Status(const OptionTarget&, const std::string& text)> set;
};

const std::vector<Option>& Options();

// "auto, per-core or a number from 1 to 64".
std::string Expectation(const Option& option);

// "xray, file or null".
std::string JoinWords(const std::vector<std::string_view>& words);

}  // namespace mobula
