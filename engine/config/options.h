// The table of everything a configuration can say: one row per option, and one per list or map of many;
// the loader, the names in the environment, the JSON schema and the page of options are made from it.
//
// A path's `*` stands for a name that the user chooses, its `[]` for an item of a list.
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

// What of a value no message and no print may show: nothing, the password in a URL, all of it.
enum class Secrecy : uint8_t { kNone, kPassword, kAll };

enum class OptionKind : uint8_t {
  kText,
  kChoice,  // one of `words`
  kNumber,
  kSize,
  kDuration,
  kAddress,
  kUrl,
  kRegion,
  kForm,  // text of the form that `form` tells people and `pattern` machines
  kFilter,
  kBackendName,
  kBackendNames,  // a list; each name is set on its own
};

// What is being filled in: the innermost thing that a path leads into, and those around it.
struct OptionTarget {
  Config* config;
  BackendConfig* backend = nullptr;
  RouteConfig* route = nullptr;
  AwsRole* role = nullptr;  // null: the backend's own
  std::string_view name;    // the last `*` of the path
};

struct Option {
  std::string path;               // "backends.*.path", "routes[].to"
  std::string_view backend_type;  // the only type that has it; empty: no backend's, or every one's
  OptionKind kind;
  std::vector<std::string_view> words;  // accepted beside what the kind says
  uint64_t min = 0;                     // bounds of numbers, bytes, nanoseconds
  uint64_t max = 0;
  std::string_view form;     // of kForm: "an octal mode such as 0660"
  std::string_view pattern;  // of kForm: a regular expression for the schema
  std::string default_text;  // empty: none
  bool required = false;
  bool decides = false;  // which neighbours there may be, and so is read before them
  Secrecy secrecy = Secrecy::kNone;
  bool live = false;            // of no backend and no route, and yet taken up by a running agent
  std::string_view needs;       // the neighbour without which it means nothing
  std::string_view named_type;  // of kBackendName: the type that the backend must have
  std::string_view help;
  // Sets the value `text` stands for. A message, if there is one, says what is wrong; without one
  // the text is simply not what Expectation says.
  std::function<absl::Status(const OptionTarget&, const std::string& text)> set;
  // Of options that belong to no backend and no route: the present value as people write it, empty when there is
  // none; and the present value of another configuration.
  std::function<std::string(const OptionTarget&)> show;
  std::function<void(const OptionTarget& from, const OptionTarget& to)> copy;
};

// A list, or a map whose keys the user chooses.
struct Collection {
  std::string path;  // "routes[]", "backends.*"
  std::string_view backend_type;
  std::string_view noun;         // "routes"
  std::string_view expectation;  // "a list of routes"
  std::string_view help;
  size_t max;
  std::string_view needs;         // as Option::needs
  std::string_view name_rule;     // of a map: what its keys may be
  std::string_view name_pattern;  // the same for the schema
  bool (*is_name)(std::string_view) = nullptr;
  // Makes room for one more, and says what is filled in inside.
  std::function<OptionTarget(const OptionTarget&, std::string_view name)> enter;

  [[nodiscard]] bool is_list() const { return path.back() == ']'; }
};

const std::vector<Option>& Options();
const std::vector<Collection>& Collections();

// Of a path of the table and one key below it: "a.b". `path` may be empty.
std::string Below(std::string_view path, std::string_view key);

// Its words again.
std::vector<std::string> SplitPath(std::string_view path);

// The row of exactly this path that a backend of `backend_type` has; `backend_type` is empty outside of
// backends, and kAnyType takes the first row whatever its type.
inline constexpr std::string_view kAnyType = "*";
const Option* FindOption(std::string_view path, std::string_view backend_type);
// The list or map that stands at `path`: "routes", "backends.*.session_tags".
const Collection* FindCollection(std::string_view path, std::string_view backend_type);
// The keys of a map at `path`, in the order of the table.
std::vector<std::string> KeysOf(std::string_view path, std::string_view backend_type);
// The path of the table for one that has names in the place of `*`, given as its words; empty: there is none.
std::string PatternOf(const std::vector<std::string>& words);

// "auto, per-core or a number from 1 to 64".
std::string Expectation(const Option& option);

// "xray, file or null".
std::string JoinWords(const std::vector<std::string_view>& words);

}  // namespace mobula
