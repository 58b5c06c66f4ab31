// Prints the tables of options and of collections as JSON, for tests/golden/config_reference_test.py.
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
    case mobula::OptionKind::kForm:
      return "form";
    case mobula::OptionKind::kFilter:
      return "filter";
    case mobula::OptionKind::kBackendName:
      return "name";
    case mobula::OptionKind::kBackendNames:
      return "names";
  }
  return "";
}

}  // namespace

int main() {
  std::string options;
  for (const mobula::Option& option : mobula::Options()) {
    std::string words;
    for (const std::string_view word : option.words)
      words += (words.empty() ? "" : ",") + Quoted(word);
    options += fmt::format(
        R"({}{{"path":{},"type":{},"kind":{},"words":[{}],"min":{},"max":{},"pattern":{},"default":{},)"
        R"("required":{},"needs":{},"expected":{},"help":{}}})",
        options.empty() ? "\n" : ",\n", Quoted(option.path), Quoted(option.backend_type),
        Quoted(KindName(option.kind)), words, option.min, option.max, Quoted(option.pattern),
        Quoted(option.default_text), option.required, Quoted(option.needs),
        Quoted(mobula::Expectation(option)), Quoted(option.help));
  }
  std::string collections;
  for (const mobula::Collection& collection : mobula::Collections()) {
    collections += fmt::format(R"({}{{"path":{},"max":{},"needs":{},"name_pattern":{},"help":{}}})",
                               collections.empty() ? "\n" : ",\n", Quoted(collection.path),
                               collection.max, Quoted(collection.needs),
                               Quoted(collection.name_pattern), Quoted(collection.help));
  }
  std::puts(fmt::format(R"({{"options":[{}],"collections":[{}]}})", options, collections).c_str());
  return 0;
}
