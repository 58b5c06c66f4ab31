// Walks the tree of the file along the table of options, then checks what no single option can see.
// Tested by tests/unit/engine/config/loader_test.cc and tests/golden/config_golden_test.cc.
#include "engine/config/loader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"
#include "engine/config/options.h"
#include "engine/config/references.h"
#include "engine/config/shown.h"
#include "engine/config/yaml_tree.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr size_t kFileBytesMax = size_t{1} << 20;
constexpr size_t kMistakesMax = 50;
constexpr size_t kBackendsMax = 64;
constexpr size_t kRoutesMax = 256;

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// Insertions, deletions and replacements that turn `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// ` (did you mean "engine"?)`, or nothing when no candidate is near.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kWordBytesMax = 64;
  if (word.size() > kWordBytesMax) return "";
  std::string_view nearest;
  size_t best = word.size() / 3 + 2;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", nearest);
}

// What other parsers say may quote from the file.
std::string MessageOf(const absl::Status& status) {
  constexpr size_t kMessageBytesMax = 500;
  return Shown(std::string(status.message()), kMessageBytesMax);
}

std::string OneOf(const std::vector<std::string>& words) {
  return JoinWords(std::vector<std::string_view>(words.begin(), words.end()));
}

std::string_view KindName(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kMap:
      return "a map";
    case YamlNode::Kind::kList:
      return "a list";
  }
  return "";
}

// --- patterns: paths of the table, with `*` for a backend's name and `[]` for an item
// ---------------------

bool Applies(const Option& option, const OptionTarget& target) {
  return option.backend_type.empty() ||
         (target.backend != nullptr && target.backend->type() == option.backend_type);
}

const Option* FindOption(std::string_view pattern, const OptionTarget& target) {
  for (const Option& option : Options()) {
    if (option.path == pattern && Applies(option, target)) return &option;
  }
  return nullptr;
}

bool AnyStartsWith(const std::string& start) {
  return std::any_of(Options().begin(), Options().end(),
                     [&](const Option& option) { return StartsWith(option.path, start); });
}

std::string Below(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

// The keys a map at `pattern` may have.
std::vector<std::string> KeysOf(const std::string& pattern, const OptionTarget& target) {
  const std::string start = Below(pattern, "");
  std::vector<std::string> keys;
  for (const Option& option : Options()) {
    if (!StartsWith(option.path, start) || !Applies(option, target)) continue;
    const std::string_view rest = option.path.substr(start.size());
    std::string key(rest.substr(0, rest.find_first_of(".[")));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
  }
  return keys;
}

// --- reading
// ----------------------------------------------------------------------------------------------

// A value that names a backend, kept until all backends are known.
struct NamedBackend {
  const YamlNode* node;
  std::string path;
  std::string name;
};

class Reader {
 public:
  Reader(std::string_view name, Environment environment)
      : name_(name), environment_(std::move(environment)) {}

  absl::StatusOr<Config> Read(const YamlNode& root) {
    OptionTarget target{&config_};
    ReadMap(root, "", "", target);
    CheckBackends(root);
    CheckRoutes(root);
    if (mistakes_.empty()) return std::move(config_);
    return absl::InvalidArgumentError(Told());
  }

 private:
  struct Mistake {
    bool from_flag;
    int line;
    int column;
    std::string text;
  };

  std::string Place(const YamlNode& node, bool at_key) const {
    if (node.from_flag) return "--set ";
    if (node.line == 0) return name_ + ": ";
    return fmt::format("{}:{}:{}: ", name_, at_key ? node.key_line : node.line,
                       at_key ? node.key_column : node.column);
  }

  void Add(const YamlNode& node, const std::string& path, std::string_view what, bool at_key) {
    if (mistakes_.size() >= kMistakesMax) {
      ++mistakes_untold_;
      return;
    }
    const std::string where = path.empty() ? "" : path + ": ";
    mistakes_.push_back({node.from_flag, at_key ? node.key_line : node.line,
                         at_key ? node.key_column : node.column,
                         fmt::format("{}{}{}", Place(node, at_key), where, what)});
  }
  void AddAtValue(const YamlNode& node, const std::string& path, std::string_view what) {
    Add(node, path, what, false);
  }
  void AddAtKey(const YamlNode& node, const std::string& path, std::string_view what) {
    Add(node, path, what, true);
  }

  void Warn(const YamlNode& node, const std::string& path, std::string_view what) {
    config_.warnings.push_back(fmt::format("{}{}: {}", Place(node, false), path, what));
  }

  std::string Told() {
    std::stable_sort(mistakes_.begin(), mistakes_.end(), [](const Mistake& a, const Mistake& b) {
      return std::tie(a.from_flag, a.line, a.column) < std::tie(b.from_flag, b.line, b.column);
    });
    std::string out;
    for (const Mistake& mistake : mistakes_) {
      if (!out.empty()) out += '\n';
      out += mistake.text;
    }
    if (mistakes_untold_ > 0) out += fmt::format("\n{}: and {} more", name_, mistakes_untold_);
    return out;
  }

  void ReadNode(const YamlNode& node, const std::string& pattern, const std::string& path,
                const OptionTarget& target) {
    if (const Option* option = FindOption(pattern, target)) {
      ReadOption(node, *option, path, target);
    } else if (AnyStartsWith(pattern + "[]")) {
      ReadRoutes(node, path);
    } else if (AnyStartsWith(pattern + ".*")) {
      ReadBackends(node, path);
    } else {
      ReadMap(node, pattern, path, target);
    }
  }

  // Whether the children of `node` can be read as those of a map; nothing at all is an empty one.
  bool IsMap(const YamlNode& node, const std::string& path, std::string_view expected) {
    if (node.kind == YamlNode::Kind::kMap || node.kind == YamlNode::Kind::kNull) return true;
    AddAtValue(node, path, fmt::format("{}: expected {}", KindName(node), expected));
    return false;
  }

  void ReadMap(const YamlNode& node, const std::string& pattern, const std::string& path,
               const OptionTarget& target) {
    const std::vector<std::string> keys = KeysOf(pattern, target);
    if (!IsMap(node, path, fmt::format("a map with {}", OneOf(keys)))) return;
    std::map<std::string, int> seen;
    for (const YamlNode& child : node.children) {
      const std::string child_path = Below(path, Shown(child.key));
      if (!IsFirst(child, child_path, &seen)) continue;
      if (std::find(keys.begin(), keys.end(), child.key) == keys.end()) {
        AddUnknownKey(child, pattern, child_path, keys);
        continue;
      }
      const std::string child_pattern = Below(pattern, child.key);
      // Read before its neighbours: it decides which they may be.
      if (child_pattern == "backends.*.type") continue;
      ReadNode(child, child_pattern, child_path, target);
    }
    for (const Option& option : Options()) {
      if (!option.required || !Applies(option, target)) continue;
      const std::string_view key = option.path.substr(option.path.rfind('.') + 1);
      if (option.path == Below(pattern, key) && seen.count(std::string(key)) == 0) {
        AddAtValue(node, Below(path, key), Missing(option));
      }
    }
  }

  static std::string Missing(const Option& option) {
    const bool any_text = option.kind == OptionKind::kText;
    return fmt::format("missing: expected {}",
                       any_text ? std::string(option.help) : Expectation(option));
  }

  bool IsFirst(const YamlNode& child, const std::string& path, std::map<std::string, int>* seen) {
    const auto [first, inserted] = seen->emplace(child.key, child.key_line);
    if (!inserted)
      AddAtKey(child, path, fmt::format("given twice, first in line {}", first->second));
    return inserted;
  }

  void AddUnknownKey(const YamlNode& child, const std::string& pattern, const std::string& path,
                     const std::vector<std::string>& keys) {
    const std::string child_pattern = Below(pattern, child.key);
    for (const Option& option : Options()) {
      if (option.path == child_pattern || StartsWith(option.path, child_pattern + ".")) {
        AddAtKey(child, path,
                 fmt::format("only a backend of type {} has this key", option.backend_type));
        return;
      }
    }
    const std::string near = DidYouMean(child.key, keys);
    AddAtKey(
        child, path,
        near.empty() ? fmt::format("unknown key: expected {}", OneOf(keys)) : "unknown key" + near);
  }

  void ReadBackends(const YamlNode& node, const std::string& path) {
    if (!IsMap(node, path, "a map of backends by name")) return;
    std::map<std::string, int> seen;
    for (const YamlNode& child : node.children) {
      const std::string child_path = Below(path, Shown(child.key));
      if (!IsFirst(child, child_path, &seen)) continue;
      constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789_-";
      if (child.key.empty() || child.key.size() > 63 ||
          child.key.find_first_not_of(kLetters) != child.key.npos) {
        AddAtKey(child, child_path, "a backend's name is 1 to 63 of a-z, 0-9, _ and -");
        continue;
      }
      if (backend_names_.size() >= kBackendsMax) {
        AddAtKey(child, child_path, fmt::format("more than {} backends", kBackendsMax));
        return;
      }
      backend_names_.push_back(child.key);
      ReadBackend(child, child_path);
    }
  }

  void ReadBackend(const YamlNode& node, const std::string& path) {
    BackendConfig backend;
    backend.name = node.key;
    const OptionTarget target{&config_, &backend};
    const YamlNode* type = node.kind == YamlNode::Kind::kMap ? node.Find("type") : nullptr;
    if (node.kind != YamlNode::Kind::kMap && node.kind != YamlNode::Kind::kNull) {
      AddAtValue(node, path, fmt::format("{}: expected a map with a type", KindName(node)));
    } else if (type == nullptr) {
      const Option* option = FindOption("backends.*.type", target);
      AddAtValue(node, Below(path, "type"), Missing(*option));
    } else {
      const size_t mistakes = mistakes_.size();
      ReadNode(*type, "backends.*.type", Below(path, "type"), target);
      if (mistakes_.size() > mistakes) return;
      ReadMap(node, "backends.*", path, target);
      config_.backends.push_back(std::move(backend));
    }
  }

  void ReadRoutes(const YamlNode& node, const std::string& path) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kList) {
      AddAtValue(node, path, fmt::format("{}: expected a list of routes", KindName(node)));
      return;
    }
    if (node.children.size() > kRoutesMax) {
      AddAtValue(node, path, fmt::format("more than {} routes", kRoutesMax));
      return;
    }
    for (size_t i = 0; i < node.children.size(); ++i) {
      RouteConfig route;
      ReadMap(node.children[i], "routes[]", fmt::format("{}[{}]", path, i),
              OptionTarget{&config_, nullptr, &route});
      config_.routes.push_back(std::move(route));
    }
  }

  void ReadOption(const YamlNode& node, const Option& option, const std::string& path,
                  const OptionTarget& target) {
    if (option.kind != OptionKind::kBackendNames) {
      ReadValue(node, option, path, target);
      return;
    }
    if (node.kind != YamlNode::Kind::kList) {
      AddAtValue(node, path, fmt::format("{}: expected {}", KindName(node), Expectation(option)));
      return;
    }
    std::map<std::string, std::string> seen;  // where each name stands first
    for (size_t i = 0; i < node.children.size(); ++i) {
      const YamlNode& child = node.children[i];
      const std::string child_path = fmt::format("{}[{}]", path, i);
      const size_t named = named_.size();
      ReadValue(child, option, child_path, target);
      if (named_.size() == named) continue;
      const auto [first, inserted] = seen.emplace(named_.back().name, child_path);
      // It would get every document twice.
      if (!inserted) {
        AddAtValue(child, child_path, fmt::format("the same backend as {}", first->second));
      }
    }
  }

  void ReadValue(const YamlNode& node, const Option& option, const std::string& path,
                 const OptionTarget& target) {
    // `null` is a backend's type, and may be its name, before it is YAML's word for nothing.
    const bool word =
        option.kind == OptionKind::kChoice || option.kind == OptionKind::kBackendNames;
    const bool spelled = node.kind == YamlNode::Kind::kNull && word && !node.text.empty();
    if (node.kind != YamlNode::Kind::kScalar && !spelled) {
      AddAtValue(node, path, fmt::format("{}: expected {}", KindName(node), Expectation(option)));
      return;
    }
    const auto text = ResolveReferences(node.text, environment_);
    if (!text.ok()) {
      AddAtValue(node, path, MessageOf(text.status()));
      return;
    }
    if (option.kind == OptionKind::kBackendNames) named_.push_back({&node, path, *text});
    const absl::Status status = option.set(target, *text);
    if (!status.ok()) AddAtValue(node, path, WhatIsWrong(node, option, status));
  }

  // A resolved value may be a secret, and so may a message that quotes from it.
  static std::string WhatIsWrong(const YamlNode& node, const Option& option,
                                 const absl::Status& status) {
    if (HasReference(node.text)) {
      return fmt::format("{}: what it stands for is not {}", Shown(node.text), Expectation(option));
    }
    if (!status.message().empty()) {
      return fmt::format("\"{}\": {}", Shown(node.text), MessageOf(status));
    }
    std::string near;
    if (option.kind == OptionKind::kChoice) {
      near = DidYouMean(node.text, {option.words.begin(), option.words.end()});
    }
    return fmt::format("\"{}\": expected {}{}", Shown(node.text), Expectation(option), near);
  }

  // --- what no single option can see ---

  void CheckBackends(const YamlNode& root) {
    const YamlNode* backends = root.Find("backends");
    if (backend_names_.empty() && mistakes_.empty()) {
      AddAtValue(backends != nullptr ? *backends : root, "backends", "at least one is needed");
    }
    std::map<std::string, std::string> files;
    if (!config_.dead_letter.path.empty()) files[config_.dead_letter.path] = "dead_letter.path";
    for (const BackendConfig& backend : config_.backends) {
      const auto* file = std::get_if<FileBackendConfig>(&backend.settings);
      if (file == nullptr || file->path.empty()) continue;
      const std::string path = fmt::format("backends.{}", backend.name);
      const YamlNode& node = *backends->Find(backend.name);
      if (file->path == "-" && file->rotate_size > 0) {
        AddAtValue(*node.Find("rotate"), path + ".rotate", "standard output cannot be rotated");
      }
      const auto [first, inserted] = files.emplace(file->path, path + ".path");
      if (!inserted) {
        AddAtValue(*node.Find("path"), path + ".path",
                   fmt::format("the same file as {}", first->second));
      }
    }
  }

  void CheckRoutes(const YamlNode& root) {
    std::set<std::string> used;
    for (const NamedBackend& named : named_) {
      used.insert(named.name);
      if (std::find(backend_names_.begin(), backend_names_.end(), named.name) !=
          backend_names_.end()) {
        continue;
      }
      const bool hidden = HasReference(named.node->text);
      AddAtValue(*named.node, named.path,
                 hidden ? Shown(named.node->text) + ": what it stands for is no backend"
                        : fmt::format("no backend is named \"{}\"{}", Shown(named.name),
                                      DidYouMean(named.name, backend_names_)));
    }
    if (config_.routes.empty()) return;
    const YamlNode& routes = *root.Find("routes");
    for (size_t i = 0; i + 1 < config_.routes.size(); ++i) {
      if (!config_.routes[i].when.empty()) continue;
      Warn(routes.children[i + 1], fmt::format("routes[{}]", i + 1),
           fmt::format("never reached: routes[{}] takes everything", i));
      break;
    }
    if (std::none_of(config_.routes.begin(), config_.routes.end(),
                     [](const RouteConfig& route) { return route.when.empty(); })) {
      Warn(routes, "routes", "documents that match none of them are dropped, counted as filtered");
    }
    for (const std::string& name : backend_names_) {
      if (used.count(name) != 0) continue;
      Warn(*root.Find("backends")->Find(name), "backends." + name, "no route leads to it");
    }
  }

  const std::string name_;
  const Environment environment_;
  Config config_;
  std::vector<std::string> backend_names_;  // also of those with mistakes
  std::vector<NamedBackend> named_;
  std::vector<Mistake> mistakes_;
  size_t mistakes_untold_ = 0;
};

// --- --set
// ------------------------------------------------------------------------------------------------

void MarkAsFlag(YamlNode& node) {
  node.from_flag = true;
  for (YamlNode& child : node.children) MarkAsFlag(child);
}

// The path as the table has it: below `backends` the second word is a name.
const Option* OptionAt(const std::vector<std::string>& words) {
  std::string pattern;
  for (size_t i = 0; i < words.size(); ++i) {
    pattern = Below(pattern, i == 1 && words[0] == "backends" ? "*" : words[i]);
  }
  for (const Option& option : Options()) {
    if (option.path == pattern) return &option;
  }
  return nullptr;
}

// The value of an option is taken as it stands, so that "-" and "[::1]:2000" need no second
// quoting; maps and lists are YAML.
absl::StatusOr<YamlNode> ParseSetValue(const std::vector<std::string>& words,
                                       std::string_view value) {
  if (OptionAt(words) == nullptr) return ParseYamlTree(value);
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = value;
  return node;
}

absl::Status ApplySet(YamlNode& root, std::string_view set) {
  const size_t equals = set.find('=');
  if (equals == set.npos || equals == 0) {
    return absl::InvalidArgumentError(
        fmt::format("--set {}: expected path=value, such as log.level=debug", Shown(set)));
  }
  const std::string path(set.substr(0, equals));
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    words.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  auto value = ParseSetValue(words, set.substr(equals + 1));
  if (!value.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("--set {}: {}", Shown(path), MessageOf(value.status())));
  }
  YamlNode* node = &root;
  for (const std::string& word : words) {
    if (node->kind != YamlNode::Kind::kMap) {
      node->kind = YamlNode::Kind::kMap;
      node->children.clear();
    }
    auto child = std::find_if(node->children.begin(), node->children.end(),
                              [&](const YamlNode& c) { return c.key == word; });
    if (child == node->children.end()) {
      YamlNode made;
      made.key = word;
      made.from_flag = true;
      child = node->children.insert(child, std::move(made));
    }
    node = &*child;
  }
  value->key = std::move(node->key);
  *node = *std::move(value);
  MarkAsFlag(*node);
  return absl::OkStatus();
}

std::optional<std::string> ProcessEnvironment(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  UniqueFd opened;
  int fd = STDIN_FILENO;
  if (path != "-") {
    opened = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!opened.valid())
      return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be opened", path));
    fd = opened.get();
  }
  std::string text;
  std::array<char, 65536> block;
  while (text.size() <= kFileBytesMax) {
    const ssize_t n = ::read(fd, block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be read", path));
    if (n == 0) break;
    text.append(block.data(), static_cast<size_t>(n));
  }
  return text;
}

absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view name,
                                   const ConfigInput& input) {
  if (text.size() > kFileBytesMax) {
    return absl::InvalidArgumentError(fmt::format("{}: larger than 1MiB", name));
  }
  absl::StatusOr<YamlNode> root = ParseYamlTree(text);
  if (!root.ok()) {
    return absl::InvalidArgumentError(fmt::format("{}:{}", name, MessageOf(root.status())));
  }
  for (const std::string& set : input.sets) RETURN_IF_ERROR(ApplySet(*root, set));
  Reader reader(name, input.environment ? input.environment : ProcessEnvironment);
  return reader.Read(*root);
}

absl::StatusOr<Config> LoadConfig(const ConfigInput& input) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(input.path));
  return ParseConfig(text, input.path == "-" ? "<stdin>" : input.path, input);
}

}  // namespace mobula
