// Writes the tree of the configuration in force as text.
// Tested by tests/unit/engine/app/config_command_test.cc.
#include "engine/app/config_command.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/segment/json_quote.h"
#include "fmt/format.h"

namespace mobula {
namespace {

using Kind = YamlNode::Kind;

// Longer lines have their comment right behind them, so that they do not push away all the others.
constexpr size_t kAlignedColumnsMax = 64;

bool IsValue(const YamlNode& node) {
  return node.kind == Kind::kScalar || node.kind == Kind::kNull;
}

// --- YAML ---

// Whether `text` can stand without quotes: no mark of YAML's.
bool IsPlain(std::string_view text) {
  constexpr std::string_view kFirst =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._";
  if (text.empty() || kFirst.find(text.front()) == kFirst.npos || text.back() == ':') return false;
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return kFirst.find(c) != kFirst.npos ||
           std::string_view("+=@-:").find(c) != std::string_view::npos;
  });
}

// Whether some reader of YAML 1.1 or 1.2 would take `text` for a number, a truth value or nothing.
bool LooksLikeNoText(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const std::string_view word :
       {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return true;
  }
  return text.find_first_not_of("0123456789.:_+-abcdefxoABCDEFXO") == text.npos &&
         text.find_first_of("0123456789") != text.npos;
}

std::string Text(std::string_view text) {
  return IsPlain(text) && !LooksLikeNoText(text) ? std::string(text) : JsonQuote(text);
}

std::string YamlValue(const YamlNode& node) {
  if (node.kind == Kind::kList) {
    std::string items;
    for (const YamlNode& child : node.children) {
      items += (items.empty() ? "" : ", ") + YamlValue(child);
    }
    return "[" + items + "]";
  }
  // A backend of type `null` may say so in quotes.
  const bool null = node.kind == Kind::kScalar && node.text == "null";
  return node.quoted || null || !IsPlain(node.text) ? Text(node.text) : node.text;
}

struct Line {
  std::string text;
  std::string origin;  // empty: of a line without a value
};

void AddMap(const YamlNode& map, const std::string& indent, std::vector<Line>* lines) {
  for (const YamlNode& child : map.children) {
    const std::string start = indent + Text(child.key) + ":";
    const bool in_line =
        IsValue(child) || (child.kind == Kind::kList &&
                           std::all_of(child.children.begin(), child.children.end(), IsValue));
    if (in_line || child.children.empty()) {
      lines->push_back(
          {start + " " + (child.kind == Kind::kMap ? "{}" : YamlValue(child)), child.origin});
    } else if (child.kind == Kind::kMap) {
      lines->push_back({start, ""});
      AddMap(child, indent + "  ", lines);
    } else {
      lines->push_back({start, ""});
      for (const YamlNode& item : child.children) {
        const size_t first = lines->size();
        AddMap(item, indent + "    ", lines);
        (*lines)[first].text.replace(indent.size() + 2, 2, "- ");
      }
    }
  }
}

size_t Columns(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

std::string Yaml(const YamlNode& tree) {
  std::vector<Line> lines;
  AddMap(tree, "", &lines);
  size_t column = 0;
  for (const Line& line : lines) {
    const size_t columns = Columns(line.text);
    if (!line.origin.empty() && columns <= kAlignedColumnsMax) column = std::max(column, columns);
  }
  std::string out;
  for (const Line& line : lines) {
    out += line.text;
    if (!line.origin.empty()) {
      const size_t columns = Columns(line.text);
      out += std::string(column > columns ? column - columns : 0, ' ') + "  # " + line.origin;
    }
    out += '\n';
  }
  return out;
}

// --- JSON ---

void AddJson(const YamlNode& node, const std::string& name, std::string* out) {
  const bool list = node.kind == Kind::kList;
  const bool values = list && std::all_of(node.children.begin(), node.children.end(), IsValue);
  if (IsValue(node) || values || node.children.empty()) {
    std::string value = IsValue(node) ? JsonQuote(node.text) : node.kind == Kind::kMap ? "{}" : "";
    for (const YamlNode& child : node.children)
      value += (value.empty() ? "" : ", ") + JsonQuote(child.text);
    *out +=
        fmt::format("{}\n  {{\"name\": {}, \"value\": {}, \"origin\": {}}}", *out == "[" ? "" : ",",
                    JsonQuote(name), list ? "[" + value + "]" : value, JsonQuote(node.origin));
    return;
  }
  for (size_t i = 0; i < node.children.size(); ++i) {
    const YamlNode& child = node.children[i];
    const std::string below = list           ? fmt::format("{}[{}]", name, i)
                              : name.empty() ? child.key
                                             : name + "." + child.key;
    AddJson(child, below, out);
  }
}

}  // namespace

std::string FormatConfig(const YamlNode& tree, PrintFormat format) {
  if (format == PrintFormat::kYaml) return Yaml(tree);
  std::string out = "[";
  AddJson(tree, "", &out);
  return out + "\n]\n";
}

absl::Status PrintConfigCommand(const ConfigInput& input, PrintFormat format) {
  ASSIGN_OR_RETURN(const YamlNode tree, LoadEffective(input));
  std::fputs(FormatConfig(tree, format).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace mobula
