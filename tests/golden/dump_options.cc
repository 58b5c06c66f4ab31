// Prints the table of options as JSON, for tests/golden/config_reference_test.py.
#include <cstdio>
#include <string>
#include <string_view>

#include "engine/config/options.h"
#include "fmt/format.h"

namespace {

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string_view KindName(mobula::OptionKind kind) {
  switch (kind) {
    case mobula::OptionKind::kText:
      return "text";
    case mobula::OptionKind::kChoice:
      return "choice";
    case mobula::OptionKind::kNumber:
      return "number";
    case mobula::OptionKind::kSize:
      return "size";
    case mobula::OptionKind::kDuration:
      return "duration";
    case mobula::OptionKind::kAddress:
      return "address";
    case mobula::OptionKind::kUrl:
      return "url";
    case mobula::OptionKind::kRegion:
      return "region";
    case mobula::OptionKind::kFilter:
      return "filter";
    case mobula::OptionKind::kBackendNames:
      return "names";
  }
  return "";
}

}  // namespace

int main() {
  std::string out = "[";
  for (const mobula::Option& option : mobula::Options()) {
    std::string words;
    for (const std::string_view word : option.words)
      words += (words.empty() ? "" : ",") + Quoted(word);
    out += fmt::format(
        R"({}{{"path":{},"type":{},"kind":{},"words":[{}],"min":{},"max":{},"default":{},"required":{},)"
        R"("expected":{},"help":{}}})",
        out.size() > 1 ? ",\n" : "\n", Quoted(option.path), Quoted(option.backend_type),
        Quoted(KindName(option.kind)), words, option.min, option.max, Quoted(option.default_text),
        option.required, Quoted(mobula::Expectation(option)), Quoted(option.help));
  }
  std::puts((out + "\n]").c_str());
  return 0;
}
