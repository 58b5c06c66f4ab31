// Finds the place in the tree that a name stands for, and puts the value there.
// Tested by tests/unit/engine/config/overrides_test.cc.
#include "engine/config/overrides.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/base/status_macros.h"
#include "engine/config/did_you_mean.h"
#include "engine/config/options.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "engine/segment/utf8.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr std::string_view kPrefix = "MOBULA_";
constexpr std::string_view kBackends = "BACKENDS_";
constexpr std::string_view kType = "_TYPE";
constexpr size_t kWordsMax = 20;
constexpr size_t kMessageBytesMax = 500;

using Words = std::vector<std::string>;

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string Join(const Words& words) {
  std::string path;
  for (const std::string& word : words) path = Below(path, word);
  return path;
}

void Mark(YamlNode& node, YamlNode::Source source, const std::string& origin) {
  node.source = source;
  node.origin = origin;
  for (YamlNode& child : node.children) Mark(child, source, origin);
}

// The value of an option is taken as it stands, so that "-" and "[::1]:2000" need no second
// quoting; maps and lists are YAML.
absl::StatusOr<YamlNode> ParseValue(const Words& words, std::string_view value) {
  const std::string pattern = PatternOf(words);
  if (pattern.empty() || FindOption(pattern, kAnyType) == nullptr) return ParseYamlTree(value);
  if (!IsValidUtf8(value)) return absl::InvalidArgumentError("not UTF-8");
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = value;
  return node;
}

// `value` is marked already. A root that is no map stays as it is, for the loader to refuse.
void SetAt(const Words& words, YamlNode value, YamlNode* root) {
  if (root->kind != YamlNode::Kind::kMap && root->kind != YamlNode::Kind::kNull) return;
  YamlNode* node = root;
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
      made.source = value.source;
      made.origin = value.origin;
      child = node->children.insert(child, std::move(made));
    }
    node = &*child;
  }
  value.key = std::move(node->key);
  *node = std::move(value);
}

// --- the environment ---

// Upper case, and `_` for all that is neither a letter nor a digit.
std::string EnvironmentForm(std::string_view path) {
  std::string out;
  for (const char c : path) {
    const bool lower = c >= 'a' && c <= 'z';
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    out += lower ? static_cast<char>(c - 'a' + 'A') : plain ? c : '_';
  }
  return out;
}

// What can have a variable, by its name without MOBULA_, or for a backend's keys without the backend's name too.
struct Names {
  std::map<std::string, Words> plain;
  std::map<std::string, Words> of_backends;
  std::set<std::string> first_words;
};

// Of a path and of the maps and lists it goes through; inside of a list or behind a second name nothing has one.
void AddNames(const std::string& path, Names* names) {
  Words words;
  for (std::string word : SplitPath(path)) {
    const bool list = EndsWith(word, "[]");
    if (list) word.resize(word.size() - 2);
    if (word == "*" && words.size() != 1) return;
    words.push_back(std::move(word));
    if (words.size() == 1) names->first_words.insert(EnvironmentForm(words[0]));
    if (words.size() == 1 || words[1] != "*") {
      names->plain.emplace(EnvironmentForm(Join(words)), words);
    } else if (words.size() > 2) {
      const Words keys(words.begin() + 2, words.end());
      names->of_backends.emplace(EnvironmentForm(Join(keys)), keys);
    }
    if (list) return;
  }
}

const Names& AllNames() {
  static const Names kNames = [] {
    Names names;
    for (const Option& option : Options()) AddNames(option.path, &names);
    return names;
  }();
  return kNames;
}

// A service `mobula-admin` gives every pod MOBULA_ADMIN_SERVICE_HOST, MOBULA_ADMIN_PORT and the like.
bool IsServiceLink(std::string_view name, std::string_view value) {
  if (EndsWith(name, "_SERVICE_HOST") || name.find("_SERVICE_PORT") != name.npos) return true;
  if (EndsWith(name, "_PORT")) return value.find("://") != value.npos;
  const size_t port = name.find("_PORT_");
  if (port == name.npos) return false;
  const std::string_view rest = name.substr(port + 6);
  const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  return digits > 0 &&
         (StartsWith(rest.substr(digits), "_TCP") || StartsWith(rest.substr(digits), "_UDP") ||
          StartsWith(rest.substr(digits), "_SCTP"));
}

// Whether `name`, without MOBULA_, is meant for us.
bool IsOurs(std::string_view name) {
  const auto& words = AllNames().first_words;
  return std::any_of(words.begin(), words.end(), [name](const std::string& word) {
    return StartsWith(name, word) && (name.size() == word.size() || name[word.size()] == '_');
  });
}

class Environment {
 public:
  Environment(std::vector<std::string> names, YamlNode* root)
      : root_(root), backends_(names.begin(), names.end()) {}

  std::vector<std::string> Apply(const Variables& variables) {
    std::map<std::string, std::string> ours;  // without MOBULA_
    for (const auto& [name, value] : variables) {
      if (!StartsWith(name, kPrefix) || value.empty()) continue;
      const std::string rest = name.substr(kPrefix.size());
      if (IsOurs(rest) && !IsServiceLink(rest, value)) ours.emplace(rest, value);
    }
    // A map stands before what is inside it, and all that names backends before what is said of one.
    for (const auto& [name, value] : ours) {
      if (!StartsWith(name, kBackends)) SetPlain(name, value);
    }
    for (const std::string& name : BackendNames(*root_)) backends_.insert(name);
    for (const auto& [name, value] : ours) {
      if (StartsWith(name, kBackends)) AddBackend(name.substr(kBackends.size()));
    }
    for (const auto& [name, value] : ours) {
      if (StartsWith(name, kBackends)) SetOfBackend(name, value);
    }
    return std::move(mistakes_);
  }

 private:
  void Add(const std::string& name, std::string_view what) {
    mistakes_.push_back(fmt::format("environment {}{}: {}", kPrefix, Shown(name), what));
  }

  void Set(const std::string& name, const Words& words, const std::string& value) {
    absl::StatusOr<YamlNode> node = ParseValue(words, value);
    if (!node.ok()) {
      Add(name, Shown(std::string(node.status().message()), kMessageBytesMax));
      return;
    }
    Mark(*node, YamlNode::Source::kEnvironment, fmt::format("{}{}", kPrefix, name));
    SetAt(words, *std::move(node), root_);
  }

  void SetPlain(const std::string& name, const std::string& value) {
    const auto found = AllNames().plain.find(name);
    if (found != AllNames().plain.end()) {
      Set(name, found->second, value);
    } else {
      Add(name, "unknown variable" + Meant(name));
    }
  }

  // A backend whose type only the environment says.
  void AddBackend(std::string_view rest) {
    if (rest.size() <= kType.size() || !EndsWith(rest, kType)) return;
    const std::string_view form = rest.substr(0, rest.size() - kType.size());
    const bool known =
        std::any_of(backends_.begin(), backends_.end(),
                    [&](const std::string& name) { return EnvironmentForm(name) == form; });
    if (!known && EnvironmentForm(form) == form) backends_.insert(Lower(form));
  }

  void SetOfBackend(const std::string& name, const std::string& value) {
    const std::string_view rest = std::string_view(name).substr(kBackends.size());
    std::vector<Words> meanings;
    for (const std::string& backend : backends_) {
      const std::string start = EnvironmentForm(backend) + "_";
      if (!StartsWith(rest, start)) continue;
      const auto key = AllNames().of_backends.find(std::string(rest.substr(start.size())));
      if (key == AllNames().of_backends.end()) continue;
      Words words = {"backends", backend};
      words.insert(words.end(), key->second.begin(), key->second.end());
      meanings.push_back(std::move(words));
    }
    if (meanings.size() == 1) {
      Set(name, meanings[0], value);
    } else if (meanings.empty()) {
      AddUnknown(name, rest);
    } else {
      Add(name, fmt::format("ambiguous, {} or {}: rename a backend, or use the file or a flag",
                            Join(meanings[0]), Join(meanings[1])));
    }
  }

  void AddUnknown(const std::string& name, std::string_view rest) {
    std::string_view form;  // of the backend that must be meant
    for (const auto& [key, words] : AllNames().of_backends) {
      const std::string end = "_" + key;
      if (rest.size() <= end.size() || !EndsWith(rest, end)) continue;
      const std::string_view before = rest.substr(0, rest.size() - end.size());
      if (form.empty() || before.size() < form.size()) form = before;
    }
    if (form.empty() || EnvironmentForm(form) != form) {
      Add(name, "unknown variable" + Meant(name));
      return;
    }
    const std::string backend = Lower(form);
    const std::string near = DidYouMean(backend, {backends_.begin(), backends_.end()});
    Add(name, fmt::format("no backend is named \"{}\"{}", Shown(backend),
                          !near.empty() ? near
                                        : fmt::format(": {}{}{}{}=xray would make one", kPrefix,
                                                      kBackends, Shown(form), kType)));
  }

  // Judged without the MOBULA_ that all have.
  [[nodiscard]] std::string Meant(const std::string& name) const {
    std::vector<std::string> candidates;
    for (const auto& [known, words] : AllNames().plain) candidates.push_back(known);
    for (const std::string& backend : backends_) {
      for (const auto& [key, words] : AllNames().of_backends) {
        candidates.push_back(fmt::format("{}{}_{}", kBackends, EnvironmentForm(backend), key));
      }
    }
    const std::string nearest = NearestWord(name, candidates);
    return nearest.empty() ? "" : fmt::format(" (did you mean \"{}{}\"?)", kPrefix, nearest);
  }

  static std::string Lower(std::string_view form) {
    std::string out;
    for (const char c : form) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return out;
  }

  YamlNode* const root_;
  std::set<std::string> backends_;
  std::vector<std::string> mistakes_;
};

}  // namespace

std::vector<std::string> BackendNames(const YamlNode& root) {
  std::vector<std::string> names;
  if (const YamlNode* backends = root.Find("backends")) {
    for (const YamlNode& child : backends->children) {
      if (!child.key.empty()) names.push_back(child.key);
    }
  }
  return names;
}

absl::Status ApplySet(std::string_view set, YamlNode* root) {
  const bool flag = StartsWith(set, "--");
  const std::string_view told = flag ? "" : "--set ";
  const size_t equals = set.find('=');
  const std::string_view name = set.substr(0, equals);
  if (equals == set.npos || equals == 0) {
    // Without its `=` the whole may be a value.
    return absl::InvalidArgumentError(fmt::format(
        "{}{}: expected path=value, such as log.level=debug", told, Shown(HidePassword(name))));
  }
  const Words words = SplitPath(flag ? name.substr(2) : name);
  if (words.size() > kWordsMax) {
    return absl::InvalidArgumentError(
        fmt::format("{}{}: no option has such a name", told, Shown(name)));
  }
  absl::StatusOr<YamlNode> value = ParseValue(words, set.substr(equals + 1));
  if (!value.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("{}{}: {}", told, Shown(name),
                    Shown(std::string(value.status().message()), kMessageBytesMax)));
  }
  Mark(*value, YamlNode::Source::kFlag, flag ? std::string(name) : "--set");
  SetAt(words, *std::move(value), root);
  return absl::OkStatus();
}

std::vector<std::string> ApplyEnvironment(const Variables& variables,
                                          std::vector<std::string> names, YamlNode* root) {
  return Environment(std::move(names), root).Apply(variables);
}

}  // namespace mobula
