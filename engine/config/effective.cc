// Walks the table of options beside the tree of what was said.
// Tested by tests/unit/engine/config/effective_test.cc.
#include "engine/config/effective.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "engine/config/options.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "fmt/format.h"

namespace mobula {
namespace {

// Whether a value is text to every reader, even where it looks like a number.
bool IsText(const Option& option) {
  switch (option.kind) {
    case OptionKind::kText:
    case OptionKind::kAddress:
    case OptionKind::kUrl:
    case OptionKind::kRegion:
    case OptionKind::kForm:
    case OptionKind::kFilter:
    case OptionKind::kBackendName:
    case OptionKind::kBackendNames:
      return true;
    case OptionKind::kChoice:
    case OptionKind::kNumber:
    case OptionKind::kSize:
    case OptionKind::kDuration:
      return false;
  }
  return false;
}

class Completer {
 public:
  Completer(const Config& config, std::string_view name)
      : config_(config), name_(Shown(name, 500)) {}

  // `node` is what was said of the map at `pattern`; null: nothing.
  YamlNode Map(const YamlNode* node, const std::string& pattern, std::string_view type) const {
    YamlNode out;
    out.kind = YamlNode::Kind::kMap;
    for (const std::string& key : KeysOf(pattern, type)) {
      const YamlNode* const said = node == nullptr ? nullptr : node->Find(key);
      std::optional<YamlNode> child = Child(said, node, Below(pattern, key), type);
      if (!child) continue;
      child->key = key;
      out.children.push_back(*std::move(child));
    }
    return out;
  }

 private:
  // Nothing when there is nothing to say.
  std::optional<YamlNode> Child(const YamlNode* said, const YamlNode* parent,
                                const std::string& pattern, std::string_view type) const {
    if (const Option* option = FindOption(pattern, type)) {
      return said != nullptr ? Said(*said, *option) : Default(*option, parent);
    }
    if (const Collection* collection = FindCollection(pattern, type)) {
      if (said == nullptr || said->kind == YamlNode::Kind::kNull) return std::nullopt;
      return Items(*said, *collection, type);
    }
    YamlNode map = Map(said, pattern, type);
    if (map.children.empty()) return std::nullopt;
    return map;
  }

  static std::string WithoutSecret(const std::string& text, Secrecy secrecy) {
    if (secrecy == Secrecy::kNone) return text;
    if (secrecy == Secrecy::kPassword) return HidePassword(text);
    // A reference tells where the secret is, but for the one that has it as its default.
    const bool reference = text.substr(0, 2) == "${" && text.find('}') == text.size() - 1;
    return reference && text.find(":-") == text.npos ? text : "***";
  }

  static std::optional<YamlNode> Default(const Option& option, const YamlNode* parent) {
    if (option.default_text.empty()) return std::nullopt;
    if (!option.needs.empty() && (parent == nullptr || parent->Find(option.needs) == nullptr)) {
      return std::nullopt;
    }
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.text = option.default_text;
    node.quoted = IsText(option);
    node.origin = "default";
    return node;
  }

  YamlNode Said(const YamlNode& said, const Option& option) const {
    YamlNode node;
    node.kind = said.kind;
    node.quoted = IsText(option);
    node.text = WithoutSecret(said.text, option.secrecy);
    node.origin = Origin(said);
    for (const YamlNode& child : said.children) node.children.push_back(Said(child, option));
    return node;
  }

  YamlNode Items(const YamlNode& said, const Collection& collection, std::string_view type) const {
    YamlNode out;
    out.kind = said.kind;
    out.origin = Origin(said);
    const Option* const option = FindOption(collection.path, type);
    for (const YamlNode& child : said.children) {
      YamlNode item = option != nullptr
                          ? Said(child, *option)
                          : Map(&child, collection.path, type.empty() ? TypeOf(child.key) : type);
      item.key = child.key;
      out.children.push_back(std::move(item));
    }
    return out;
  }

  // Empty for what is no backend.
  [[nodiscard]] std::string_view TypeOf(const std::string& name) const {
    const auto found =
        std::find_if(config_.backends.begin(), config_.backends.end(),
                     [&](const BackendConfig& backend) { return backend.name == name; });
    return found == config_.backends.end() ? "" : found->type();
  }

  [[nodiscard]] std::string Origin(const YamlNode& node) const {
    if (node.source != YamlNode::Source::kText) return node.origin;
    return fmt::format("{}:{}", name_, node.line);
  }

  const Config& config_;
  const std::string name_;
};

}  // namespace

YamlNode EffectiveTree(const YamlNode& root, const Config& config, std::string_view name) {
  return Completer(config, name).Map(&root, "", "");
}

}  // namespace mobula
