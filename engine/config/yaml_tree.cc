// Builds YamlNode from yaml-cpp's events, which leaves every bound in our hands.
// Tested by tests/unit/engine/config/yaml_tree_test.cc.
#include "engine/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <sstream>
#include <utility>

#include "engine/segment/utf8.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr size_t kDepthMax = 50;
constexpr size_t kNodesMax = 10'000;
constexpr size_t kTextBytesMax = size_t{4} << 20;

// Thrown through yaml-cpp's parser, caught at the end of this file.
struct Refusal {
  int line;
  int column;
  std::string what;
};

int LineOf(const YAML::Mark& mark) { return mark.line + 1; }
int ColumnOf(const YAML::Mark& mark) { return mark.column + 1; }

class TreeBuilder final : public YAML::EventHandler {
 public:
  // `text` without a byte order mark, so that marks are offsets into it.
  explicit TreeBuilder(std::string_view text) : text_(text) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_++ > 0) Refuse(mark, "a second document: the configuration is one document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node = Make(mark, YamlNode::Kind::kNull);
    for (const std::string_view word : {"null", "Null", "NULL", "~"}) {
      const auto offset = static_cast<size_t>(std::max(mark.pos, 0));
      if (offset < text_.size() && text_.substr(offset, word.size()) == word) node.text = word;
    }
    Add(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) Refuse(mark, "an alias inside the value it stands for");
    YamlNode node = Copy(found->second, mark);
    node.line = LineOf(mark);
    node.column = ColumnOf(mark);
    Add(std::move(node), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckTag(mark, tag);
    if (tag == "!") CheckClosed(mark);
    YamlNode node = Make(mark, YamlNode::Kind::kScalar);
    Spend(mark, 0, value.size());
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    Add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    CheckTag(mark, tag);
    Open(mark, YamlNode::Kind::kList, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    CheckTag(mark, tag);
    Open(mark, YamlNode::Kind::kMap, anchor);
  }
  void OnMapEnd() override {
    Merge(open_.back().node);
    Close();
  }

  YamlNode TakeRoot() { return std::move(root_); }

 private:
  // A map or list whose end has not come yet.
  struct Frame {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;
    YamlNode key;
  };

  [[noreturn]] static void Refuse(const YAML::Mark& mark, std::string what) {
    throw Refusal{LineOf(mark), ColumnOf(mark), std::move(what)};
  }

  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    const bool known =
        tag.empty() || tag == "?" || tag == "!" || tag.rfind("tag:yaml.org,2002:", 0) == 0;
    if (!known) Refuse(mark, "tags (!name) have no meaning here");
  }

  // yaml-cpp takes a line end before the end of the text for the quote that is missing.
  void CheckClosed(const YAML::Mark& mark) const {
    size_t at = static_cast<size_t>(std::max(mark.pos, 0));
    // The mark stands before an anchor.
    while (at < text_.size() && text_[at] == '&') {
      at = text_.find_first_not_of(" \t\r\n", text_.find_first_of(" \t\r\n", at));
    }
    if (at >= text_.size() || (text_[at] != '"' && text_[at] != '\'')) return;  // a block
    const char quote = text_[at];
    for (++at; at < text_.size(); ++at) {
      const bool doubled = quote == '\'' && text_.substr(at, 2) == "''";
      if (doubled || (text_[at] == '\\' && quote == '"')) {
        ++at;
      } else if (text_[at] == quote) {
        return;
      }
    }
    Refuse(mark, "the closing quote is missing");
  }

  void Spend(const YAML::Mark& mark, size_t nodes, size_t bytes) {
    nodes_ += nodes;
    bytes_ += bytes;
    if (nodes_ > kNodesMax) Refuse(mark, fmt::format("more than {} values", kNodesMax));
    if (bytes_ > kTextBytesMax) Refuse(mark, "more than 4 MiB of text");
  }

  YamlNode Make(const YAML::Mark& mark, YamlNode::Kind kind) {
    Spend(mark, 1, 0);
    YamlNode node;
    node.kind = kind;
    node.line = LineOf(mark);
    node.column = ColumnOf(mark);
    return node;
  }

  // Pays for every node before it is made: a bomb of aliases ends here.
  YamlNode Copy(const YamlNode& node, const YAML::Mark& mark) {
    Spend(mark, 1, node.text.size() + node.key.size());
    YamlNode copy;
    copy.kind = node.kind;
    copy.quoted = node.quoted;
    copy.line = node.line;
    copy.column = node.column;
    copy.text = node.text;
    copy.key = node.key;
    copy.key_line = node.key_line;
    copy.key_column = node.key_column;
    copy.children.reserve(node.children.size());
    for (const YamlNode& child : node.children) copy.children.push_back(Copy(child, mark));
    return copy;
  }

  void Open(const YAML::Mark& mark, YamlNode::Kind kind, YAML::anchor_t anchor) {
    if (open_.size() >= kDepthMax) Refuse(mark, fmt::format("nested deeper than {}", kDepthMax));
    Frame frame;
    frame.node = Make(mark, kind);
    frame.anchor = anchor;
    open_.push_back(std::move(frame));
  }

  void Close() {
    Frame frame = std::move(open_.back());
    open_.pop_back();
    Add(std::move(frame.node), frame.anchor);
  }

  void Add(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      YAML::Mark mark;
      mark.line = node.line - 1;
      mark.column = node.column - 1;
      anchors_[anchor] = Copy(node, mark);
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kMap && !parent.has_key) {
      if (node.text.empty()) {
        throw Refusal{node.line, node.column, "a key must be a plain word"};
      }
      parent.key = std::move(node);
      parent.has_key = true;
      return;
    }
    if (parent.has_key) {
      node.key = std::move(parent.key.text);
      node.key_line = parent.key.line;
      node.key_column = parent.key.column;
      parent.has_key = false;
    }
    parent.node.children.push_back(std::move(node));
  }

  // `<<`: the named maps fill in what the map itself does not say; the first of several wins.
  static void Merge(YamlNode& map) {
    std::vector<YamlNode> own;
    std::vector<YamlNode> merged;
    for (YamlNode& child : map.children) {
      if (child.key != "<<") {
        own.push_back(std::move(child));
      } else if (child.kind == YamlNode::Kind::kMap) {
        merged.push_back(std::move(child));
      } else if (child.kind == YamlNode::Kind::kList) {
        for (YamlNode& item : child.children) merged.push_back(std::move(item));
      } else {
        throw Refusal{child.line, child.column, "<<: expected a map, or a list of maps"};
      }
    }
    map.children = std::move(own);
    for (YamlNode& source : merged) {
      if (source.kind != YamlNode::Kind::kMap) {
        throw Refusal{source.line, source.column, "<<: expected a map, or a list of maps"};
      }
      for (YamlNode& child : source.children) {
        if (map.Find(child.key) == nullptr) map.children.push_back(std::move(child));
      }
    }
  }

  const std::string_view text_;
  std::vector<Frame> open_;
  std::map<YAML::anchor_t, YamlNode> anchors_;
  YamlNode root_;
  size_t nodes_ = 0;
  size_t bytes_ = 0;
  int documents_ = 0;
};

absl::Status RefusedAt(int line, int column, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}:{}: {}", line, column, what));
}

}  // namespace

const YamlNode* YamlNode::Find(std::string_view name) const {
  for (const YamlNode& child : children) {
    if (child.key == name) return &child;
  }
  return nullptr;
}

absl::StatusOr<YamlNode> ParseYamlTree(std::string_view text) {
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);
  // yaml-cpp would read UTF-16 and UTF-32 too, but our places in the text are bytes of UTF-8. Without their mark
  // it tells them by bytes of zero, which no YAML has.
  if (!IsValidUtf8(text) || text.find('\0') != text.npos) return RefusedAt(1, 1, "not UTF-8");
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder builder(text);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.TakeRoot();
  } catch (const Refusal& refusal) {
    return RefusedAt(refusal.line, refusal.column, refusal.what);
  } catch (const YAML::Exception& error) {
    // At the end of the text yaml-cpp's column is 0; its offset is right.
    const auto offset = static_cast<size_t>(std::max(error.mark.pos, 0));
    const std::string_view before = text.substr(0, std::min(offset, text.size()));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    return RefusedAt(static_cast<int>(line), static_cast<int>(column),
                     fmt::format("not YAML: {}", error.msg));
  } catch (const std::exception& error) {
    return RefusedAt(1, 1, fmt::format("not YAML: {}", error.what()));
  }
}

}  // namespace mobula
