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

#include "engine/base/ip_address.h"
#include "engine/base/status_macros.h"
#include "engine/base/unique_fd.h"
#include "engine/config/did_you_mean.h"
#include "engine/config/effective.h"
#include "engine/config/options.h"
#include "engine/config/references.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr size_t kMistakesMax = 50;
constexpr std::string_view kSetFlag = "--set";

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

// --- reading ---

// A value that names a backend, kept until all backends are known.
struct NamedBackend {
  const YamlNode* node;
  const Option* option;
  std::string path;
  std::string name;
};

class Reader {
 public:
  // `names` as in ConfigInput; must outlive this.
  Reader(std::string_view name, Environment environment,
         const std::map<std::string, std::string>& names)
      : name_(name), environment_(std::move(environment)), names_(names) {}

  // `mistakes` are those already found in the environment.
  absl::StatusOr<Config> Read(const YamlNode& root, const std::vector<std::string>& mistakes) {
    for (const std::string& text : mistakes) {
      AddMistake({YamlNode::Source::kEnvironment, 0, 0, text});
    }
    backend_names_ = BackendNames(root);
    ReadMap(root, "", "", OptionTarget{&config_});
    CheckBackends(root);
    CheckFiles(root);
    CheckNames(root);
    CheckRoutes(root);
    CheckBurst(root);
    CheckToken(root);
    if (mistakes_.empty()) return std::move(config_);
    return absl::InvalidArgumentError(AllMistakes());
  }

  // Whether the file itself says something secret.
  [[nodiscard]] bool has_password() const { return has_password_; }

 private:
  struct Mistake {
    YamlNode::Source source;
    int line;
    int column;
    std::string text;
  };

  [[nodiscard]] std::string Place(const YamlNode& node, bool at_key) const {
    switch (node.source) {
      case YamlNode::Source::kEnvironment:
        return fmt::format("environment {}: ", node.origin);
      case YamlNode::Source::kFlag:
        return node.origin == kSetFlag ? fmt::format("{} ", kSetFlag) : "--";
      case YamlNode::Source::kText:
        break;
    }
    if (node.line == 0) return name_ + ": ";
    return fmt::format("{}:{}:{}: ", name_, at_key ? node.key_line : node.line,
                       at_key ? node.key_column : node.column);
  }

  void AddMistake(Mistake mistake) {
    if (mistakes_.size() < kMistakesMax) {
      mistakes_.push_back(std::move(mistake));
    } else {
      ++mistakes_untold_;
    }
  }

  // What is said of `path`, with its place in front.
  [[nodiscard]] std::string Told(const YamlNode& node, const std::string& path,
                                 std::string_view what, bool at_key) const {
    const auto name = names_.find(path);
    if (name != names_.end() && node.source != YamlNode::Source::kEnvironment) {
      return fmt::format("{}: {}", name->second, what);
    }
    return fmt::format("{}{}{}{}", Place(node, at_key), path, path.empty() ? "" : ": ", what);
  }

  void Add(const YamlNode& node, const std::string& path, std::string_view what, bool at_key) {
    AddMistake({node.source, at_key ? node.key_line : node.line,
                at_key ? node.key_column : node.column, Told(node, path, what, at_key)});
  }
  void AddAtValue(const YamlNode& node, const std::string& path, std::string_view what) {
    Add(node, path, what, false);
  }
  void AddAtKey(const YamlNode& node, const std::string& path, std::string_view what) {
    Add(node, path, what, true);
  }

  void Warn(const YamlNode& node, const std::string& path, std::string_view what) {
    config_.warnings.push_back(Told(node, path, what, false));
  }

  std::string AllMistakes() {
    std::stable_sort(mistakes_.begin(), mistakes_.end(), [](const Mistake& a, const Mistake& b) {
      return std::tie(a.source, a.line, a.column) < std::tie(b.source, b.line, b.column);
    });
    std::string out;
    for (const Mistake& mistake : mistakes_) {
      if (!out.empty()) out += '\n';
      out += mistake.text;
    }
    if (mistakes_untold_ > 0) out += fmt::format("\n{}: and {} more", name_, mistakes_untold_);
    return out;
  }

  static std::string_view TypeOf(const OptionTarget& target) {
    return target.backend == nullptr ? "" : target.backend->type();
  }

  void ReadNode(const YamlNode& node, const std::string& pattern, const std::string& path,
                const OptionTarget& target) {
    const Collection* const collection = FindCollection(pattern, TypeOf(target));
    if (const Option* option = FindOption(pattern, TypeOf(target))) {
      ReadOption(node, *option, path, target);
    } else if (collection == nullptr) {
      ReadMap(node, pattern, path, target);
    } else if (collection->is_list()) {
      ReadList(node, *collection, path, target);
    } else {
      ReadNamed(node, *collection, path, target);
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
    const Option* const decider = DeciderOf(pattern);
    const std::string expected =
        decider != nullptr ? fmt::format("a map with a {}", LastWord(decider->path))
                           : fmt::format("a map with {}", OneOf(KeysOf(pattern, TypeOf(target))));
    if (!IsMap(node, path, expected)) return;
    if (decider != nullptr && !ReadDecider(node, *decider, path, target)) return;
    const std::vector<std::string> keys = KeysOf(pattern, TypeOf(target));
    std::map<std::string, int> seen;
    for (const YamlNode& child : node.children) {
      const std::string child_path = Below(path, Shown(child.key));
      if (!IsFirst(child, child_path, &seen)) continue;
      if (std::find(keys.begin(), keys.end(), child.key) == keys.end()) {
        AddUnknownKey(child, pattern, child_path, keys);
        continue;
      }
      const std::string child_pattern = Below(pattern, child.key);
      if (decider != nullptr && child_pattern == decider->path) continue;
      const std::string_view needs = NeedsOf(child_pattern, TypeOf(target));
      if (!needs.empty() && node.Find(needs) == nullptr) {
        AddAtKey(child, child_path, fmt::format("means nothing without {}", needs));
      }
      ReadNode(child, child_pattern, child_path, target);
    }
    for (const std::string& key : keys) {
      const Option* option = FindOption(Below(pattern, key), TypeOf(target));
      if (option != nullptr && option->required && seen.count(key) == 0) {
        AddAtValue(node, Below(path, key), Missing(*option));
      }
    }
  }

  static std::string_view LastWord(std::string_view path) {
    return path.substr(path.rfind('.') + 1);
  }

  // The option of a map at `pattern` that must be read before its neighbours.
  static const Option* DeciderOf(const std::string& pattern) {
    for (const Option& option : Options()) {
      if (option.decides && option.path == Below(pattern, LastWord(option.path))) return &option;
    }
    return nullptr;
  }

  static std::string_view NeedsOf(const std::string& pattern, std::string_view backend_type) {
    if (const Option* option = FindOption(pattern, backend_type)) return option->needs;
    const Collection* const collection = FindCollection(pattern, backend_type);
    return collection == nullptr ? "" : collection->needs;
  }

  // False: what else stands there cannot be judged.
  bool ReadDecider(const YamlNode& node, const Option& option, const std::string& path,
                   const OptionTarget& target) {
    const std::string_view key = LastWord(option.path);
    const YamlNode* const child = node.Find(key);
    const size_t mistakes = mistakes_.size();
    if (child == nullptr) {
      AddAtValue(node, Below(path, key), Missing(option));
    } else {
      ReadOption(*child, option, Below(path, key), target);
    }
    return mistakes_.size() == mistakes && child != nullptr;
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
      if (IsAtOrBelow(option.path, child_pattern)) {
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

  static bool IsAtOrBelow(const std::string& path, const std::string& start) {
    return path.compare(0, start.size(), start) == 0 &&
           (path.size() == start.size() || path[start.size()] == '.' || path[start.size()] == '[');
  }

  // A map whose keys the user chooses.
  void ReadNamed(const YamlNode& node, const Collection& collection, const std::string& path,
                 const OptionTarget& target) {
    if (!IsMap(node, path, collection.expectation)) return;
    std::map<std::string, int> seen;
    for (const YamlNode& child : node.children) {
      const std::string child_path = Below(path, Shown(child.key));
      if (!IsFirst(child, child_path, &seen)) continue;
      if (!collection.is_name(child.key)) {
        AddAtKey(child, child_path, collection.name_rule);
        continue;
      }
      if (seen.size() > collection.max) {
        AddAtKey(child, child_path, TooMany(collection));
        return;
      }
      ReadNode(child, collection.path, child_path, collection.enter(target, child.key));
    }
  }

  void ReadList(const YamlNode& node, const Collection& collection, const std::string& path,
                const OptionTarget& target) {
    if (node.kind == YamlNode::Kind::kNull) return;
    if (node.kind != YamlNode::Kind::kList) {
      AddAtValue(node, path,
                 fmt::format("{}: expected {}", KindName(node), collection.expectation));
    } else if (node.children.size() > collection.max) {
      AddAtValue(node, path, TooMany(collection));
    } else {
      for (size_t i = 0; i < node.children.size(); ++i) {
        ReadNode(node.children[i], collection.path, fmt::format("{}[{}]", path, i),
                 collection.enter(target, ""));
      }
    }
  }

  static std::string TooMany(const Collection& collection) {
    return fmt::format("more than {} {}", collection.max, collection.noun);
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
    const bool names =
        option.kind == OptionKind::kBackendName || option.kind == OptionKind::kBackendNames;
    const bool word = names || option.kind == OptionKind::kChoice;
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
    if (names) named_.push_back({&node, &option, path, *text});
    const bool whole = option.secrecy == Secrecy::kAll;
    has_password_ = has_password_ ||
                    (option.secrecy != Secrecy::kNone && node.source == YamlNode::Source::kText &&
                     !HasReference(node.text) && (whole || HidePassword(node.text) != node.text));
    const absl::Status status = option.set(target, *text);
    if (!status.ok()) AddAtValue(node, path, WhatIsWrong(node, option, status));
  }

  // A resolved value may be a secret, and so may a message that quotes from it.
  static std::string WhatIsWrong(const YamlNode& node, const Option& option,
                                 const absl::Status& status) {
    if (HasReference(node.text)) {
      return fmt::format("{}: what it stands for is not {}", Shown(node.text), Expectation(option));
    }
    if (option.secrecy != Secrecy::kNone) return fmt::format("expected {}", Expectation(option));
    const std::string text = Shown(HidePassword(node.text));
    if (!status.message().empty()) return fmt::format("\"{}\": {}", text, MessageOf(status));
    std::string near;
    if (option.kind == OptionKind::kChoice) {
      near = DidYouMean(node.text, {option.words.begin(), option.words.end()});
    }
    return fmt::format("\"{}\": expected {}{}", text, Expectation(option), near);
  }

  // --- what no single option can see ---

  void CheckBackends(const YamlNode& root) {
    const YamlNode* const backends = root.Find("backends");
    if (backend_names_.empty() && mistakes_.empty()) {
      AddAtValue(backends != nullptr ? *backends : root, "backends",
                 "at least one is needed, such as --backends.out.type=xray or "
                 "MOBULA_BACKENDS_OUT_TYPE=xray");
    }
    for (const BackendConfig& backend : config_.backends) {
      const auto* xray = std::get_if<XrayBackendConfig>(&backend.settings);
      if (xray == nullptr || xray->via.empty()) continue;
      const std::string path = "backends." + backend.name;
      const YamlNode& node = *backends->Find(backend.name);
      CheckChained(node, path, xray->role);
      // The first of them is assumed by whoever we are.
      for (size_t i = 1; i < xray->via.size(); ++i) {
        CheckChained(node.Find("via")->children[i], fmt::format("{}.via[{}]", path, i),
                     xray->via[i]);
      }
    }
  }

  void CheckChained(const YamlNode& node, const std::string& path, const AwsRole& role) {
    const YamlNode* const duration = node.Find("duration");
    if (duration != nullptr && role.duration > std::chrono::hours(1)) {
      AddAtValue(*duration, path + ".duration", "a role assumed by a role gets at most 1h");
    }
  }

  // Two writers of one file would spoil it for each other.
  void CheckFiles(const YamlNode& root) {
    std::map<std::string, std::string> files;
    const auto add = [&](const std::string& file, const YamlNode* map, const std::string& path) {
      if (file.empty()) return;
      const auto [first, inserted] = files.emplace(file, path);
      if (!inserted) {
        AddAtValue(*map->Find("path"), path, fmt::format("the same file as {}", first->second));
      }
    };
    const YamlNode* const receivers = root.Find("receivers");
    const YamlNode* const buffer = root.Find("buffer");
    add(config_.buffer.spool.path, buffer == nullptr ? nullptr : buffer->Find("spool"),
        "buffer.spool.path");
    add(config_.dead_letter.path, root.Find("dead_letter"), "dead_letter.path");
    add(config_.log.path, root.Find("log"), "log.path");
    add(config_.unix_socket.path, receivers == nullptr ? nullptr : receivers->Find("unix"),
        "receivers.unix.path");
    for (const BackendConfig& backend : config_.backends) {
      const auto* file = std::get_if<FileBackendConfig>(&backend.settings);
      if (file == nullptr) continue;
      const std::string path = "backends." + backend.name;
      const YamlNode& node = *root.Find("backends")->Find(backend.name);
      if (file->path == "-" && file->rotate_size > 0) {
        AddAtValue(*node.Find("rotate")->Find("size"), path + ".rotate.size",
                   "standard output cannot be rotated");
      }
      add(file->path, &node, path + ".path");
    }
  }

  // Every backend that is named must be there.
  void CheckNames(const YamlNode& root) {
    for (const NamedBackend& named : named_) {
      const bool hidden = HasReference(named.node->text);
      const auto backend =
          std::find_if(config_.backends.begin(), config_.backends.end(),
                       [&](const BackendConfig& b) { return b.name == named.name; });
      if (std::find(backend_names_.begin(), backend_names_.end(), named.name) ==
          backend_names_.end()) {
        AddAtValue(
            *named.node, named.path,
            hidden ? Shown(named.node->text) + ": what it stands for is no backend"
                   : fmt::format("no backend is named \"{}\"{}", Shown(HidePassword(named.name)),
                                 DidYouMean(named.name, backend_names_)));
      } else if (!named.option->named_type.empty() && backend != config_.backends.end() &&
                 backend->type() != named.option->named_type &&
                 root.Find("backends")->Find(named.name)->Find("type") != nullptr) {
        AddAtValue(*named.node, named.path,
                   fmt::format("\"{}\" is of type {}: expected {}", Shown(named.node->text),
                               backend->type(), Expectation(*named.option)));
      }
    }
  }

  void CheckRoutes(const YamlNode& root) {
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
    std::set<std::string> used;
    for (const NamedBackend& named : named_) {
      if (named.option->kind == OptionKind::kBackendNames) used.insert(named.name);
    }
    for (const std::string& name : backend_names_) {
      if (used.count(name) != 0) continue;
      Warn(*root.Find("backends")->Find(name), "backends." + name, "no route leads to it");
    }
  }

  void CheckToken(const YamlNode& root) {
    const AdminConfig& admin = config_.admin;
    if (admin.token.empty() || !admin.tls.cert.empty() || admin.address == "off") return;
    std::string_view host = admin.address;
    host = host.substr(0, host.rfind(':'));
    if (host.substr(0, 1) == "[") host = host.substr(1, host.size() - 2);
    const auto address = ParseIpAddress(host);
    if (host == "localhost" || (address && address->is_loopback())) return;
    Warn(*root.Find("admin")->Find("token"), "admin.token",
         "it travels in the clear without admin.tls: whoever sees the traffic may use it");
  }

  // A worker sleeps up to 25 ms, and a container without CPU time as much as a tenth of a second: what came meanwhile
  // comes at once.
  void CheckBurst(const YamlNode& root) {
    const int burst = config_.udp.source_burst;
    const int rate = config_.udp.source_rate;
    if (burst == 0 || (rate > 0 && burst >= rate / 10)) return;
    Warn(*root.Find("receivers")->Find("udp")->Find("source_burst"), "receivers.udp.source_burst",
         rate == 0 ? "means nothing while source_rate is off"
                   : "less than a tenth of source_rate: after a pause of the agent even a sender "
                     "within its rate would lose documents");
  }

  const std::string name_;
  const Environment environment_;
  const std::map<std::string, std::string>& names_;
  Config config_;
  std::vector<std::string> backend_names_;  // also of those with mistakes
  std::vector<NamedBackend> named_;
  std::vector<Mistake> mistakes_;
  size_t mistakes_untold_ = 0;
  bool has_password_ = false;
};

// --- the doors ---

std::optional<std::string> ProcessVariable(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

Variables ProcessVariables() {
  Variables variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != text.npos)
      variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

Variables VariablesOf(const ConfigInput& input) {
  if (input.variables) return input.variables();
  return input.environment ? Variables() : ProcessVariables();
}

struct Parsed {
  Config config;
  YamlNode root;
  bool has_password = false;  // in the text itself
};

absl::StatusOr<Parsed> Parse(std::string_view text, std::string_view name,
                             const ConfigInput& input) {
  if (text.size() > kConfigFileBytesMax) {
    return absl::InvalidArgumentError(fmt::format("{}: larger than 1MiB", name));
  }
  absl::StatusOr<YamlNode> root = ParseYamlTree(text);
  if (!root.ok()) {
    return absl::InvalidArgumentError(fmt::format("{}:{}", name, MessageOf(root.status())));
  }
  if (const YamlNode* const version = root->Find("Version")) {
    return absl::InvalidArgumentError(fmt::format(
        "{0}:{1}:{2}: Version: this is a file of the X-Ray daemon: `mobula config migrate {0}` "
        "makes a configuration of it, `xray -c {0}` runs it as it is",
        name, version->key_line, version->key_column));
  }
  // A variable may also be about a backend that only a flag makes.
  YamlNode with_flags = *root;
  for (const std::string& set : input.sets) RETURN_IF_ERROR(ApplySet(set, &with_flags));
  const std::vector<std::string> mistakes =
      ApplyEnvironment(VariablesOf(input), BackendNames(with_flags), &*root);
  for (const std::string& set : input.sets) RETURN_IF_ERROR(ApplySet(set, &*root));
  Reader reader(name, input.environment ? input.environment : ProcessVariable, input.names);
  ASSIGN_OR_RETURN(Config config, reader.Read(*root, mistakes));
  return Parsed{std::move(config), *std::move(root), reader.has_password()};
}

// The text to read, and what it is called in messages.
struct NamedText {
  std::string text;
  std::string name;
  FileExposure exposure;
};

absl::StatusOr<NamedText> ReadInput(const ConfigInput& input) {
  const std::string path = ConfigPath(input);
  if (path.empty()) {
    return NamedText{"", fmt::format("no configuration file (-c FILE, or {})", input.default_path)};
  }
  FileExposure exposure;
  ASSIGN_OR_RETURN(std::string text, ReadConfigFile(path, &exposure));
  // As sudo and ssh do with theirs.
  if (std::string why = AnybodyMayChange(path, exposure); !why.empty()) {
    return absl::PermissionDeniedError(why);
  }
  return NamedText{std::move(text), path == "-" ? "<stdin>" : path, exposure};
}

}  // namespace

std::string AnybodyMayChange(const std::string& path, const FileExposure& exposure) {
  if (!exposure.anybody_writes) return "";
  return fmt::format(
      "{0}: anybody may change it (mode {1:04o}), and so where segments go: chmod o-w {0}",
      Shown(path, 1000), exposure.mode);
}

std::string AStrangerMayChange(const std::string& path, const FileExposure& exposure) {
  if (!exposure.stranger) return "";
  return fmt::format(
      "{0}: belongs to user {1}, who may change it: chown root {0}, or run as that user",
      Shown(path, 1000), *exposure.stranger);
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path, FileExposure* exposure) {
  UniqueFd opened;
  int fd = STDIN_FILENO;
  if (path != "-") {
    opened = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!opened.valid())
      return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be opened", path));
    fd = opened.get();
    if (exposure != nullptr) *exposure = ExposureOf(fd);
  }
  std::string text;
  std::array<char, 65536> block;
  while (text.size() <= kConfigFileBytesMax) {
    const ssize_t n = ::read(fd, block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be read", path));
    if (n == 0) break;
    text.append(block.data(), static_cast<size_t>(n));
  }
  return text;
}

std::string ConfigPath(const ConfigInput& input) {
  if (!input.path.empty()) return input.path;
  return ::access(input.default_path.c_str(), F_OK) == 0 ? input.default_path : "";
}

absl::StatusOr<Config> ParseConfig(std::string_view text, std::string_view name,
                                   const ConfigInput& input) {
  ASSIGN_OR_RETURN(Parsed parsed, Parse(text, name, input));
  return std::move(parsed.config);
}

absl::StatusOr<Config> LoadConfig(const ConfigInput& input) {
  ASSIGN_OR_RETURN(const NamedText from, ReadInput(input));
  ASSIGN_OR_RETURN(Parsed parsed, Parse(from.text, from.name, input));
  std::vector<std::string>& warnings = parsed.config.warnings;
  if (std::string why = AStrangerMayChange(from.name, from.exposure); !why.empty()) {
    warnings.push_back(std::move(why));
  }
  if (from.exposure.anybody_reads && parsed.has_password) {
    warnings.push_back(
        fmt::format("{0}: holds a password, and anybody may read it (mode {1:04o}): chmod o-r {0}",
                    Shown(from.name, 1000), from.exposure.mode));
  }
  return std::move(parsed.config);
}

absl::StatusOr<YamlNode> ParseEffective(std::string_view text, std::string_view name,
                                        const ConfigInput& input) {
  ASSIGN_OR_RETURN(const Parsed parsed, Parse(text, name, input));
  return EffectiveTree(parsed.root, parsed.config, name);
}

absl::StatusOr<YamlNode> LoadEffective(const ConfigInput& input) {
  ASSIGN_OR_RETURN(const NamedText from, ReadInput(input));
  return ParseEffective(from.text, from.name, input);
}

}  // namespace mobula
