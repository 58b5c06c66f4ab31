// Judges names only; values are judged by the loader.
// Tested by tests/unit/engine/config/option_flags_test.cc.
#include "engine/config/option_flags.h"

#include <algorithm>

#include "engine/config/did_you_mean.h"
#include "engine/config/options.h"
#include "engine/config/shown.h"
#include "engine/config/values.h"
#include "fmt/format.h"

namespace mobula {
namespace {

constexpr std::string_view kDashes = "--";

std::string_view NameOf(std::string_view arg) {
  return arg.substr(kDashes.size(), arg.find('=') - kDashes.size());
}

// Every flag there could be, with the name that `words` give for a backend.
std::vector<std::string> AllFlags(const std::vector<std::string>& words) {
  std::vector<std::string> flags;
  for (const Option& option : Options()) {
    std::string path = option.path.substr(0, option.path.find("[]"));
    if (const size_t star = path.find('*'); star != path.npos) {
      path.replace(star, 1, words.size() > 1 ? words[1] : "NAME");
    }
    flags.push_back(path.substr(0, path.find(".*")));
  }
  return flags;
}

// A name in the path that cannot be one: how one has to be. Empty: there is none.
std::string_view RuleOfWrongName(const std::vector<std::string>& words) {
  for (size_t i = 1; i < words.size(); ++i) {
    const std::vector<std::string> before(words.begin(), words.begin() + static_cast<ptrdiff_t>(i));
    const Collection* const collection = FindCollection(PatternOf(before), kAnyType);
    if (collection != nullptr && !collection->is_list() && !collection->is_name(words[i])) {
      return collection->name_rule;
    }
  }
  return "";
}

absl::Status UnknownFlag(std::string_view name, const std::vector<std::string>& words) {
  if (const std::string_view rule = RuleOfWrongName(words); !rule.empty()) {
    return absl::InvalidArgumentError(fmt::format("--{}: {}", Shown(name), rule));
  }
  const std::string nearest = NearestWord(name, AllFlags(words));
  return absl::InvalidArgumentError(
      fmt::format("--{}: unknown option{}", Shown(name),
                  nearest.empty() ? "" : fmt::format(" (did you mean \"--{}\"?)", Shown(nearest))));
}

}  // namespace

bool IsOptionFlag(std::string_view arg) {
  if (arg.substr(0, kDashes.size()) != kDashes) return false;
  const std::string_view name = NameOf(arg);
  const std::vector<std::string> first_words = KeysOf("", kAnyType);
  return (name.find('.') != name.npos && name.front() != '.') ||
         std::find(first_words.begin(), first_words.end(), name) != first_words.end();
}

absl::StatusOr<std::vector<std::string>> SetsFromFlags(const std::vector<std::string>& args) {
  std::vector<std::string> sets;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg.compare(0, kDashes.size(), kDashes) != 0 || arg.size() == kDashes.size()) {
      return absl::InvalidArgumentError(
          fmt::format("unexpected argument: {}", Shown(HidePassword(arg))));
    }
    const std::string_view name = NameOf(arg);
    const std::vector<std::string> words = SplitPath(name);
    if (PatternOf(words).empty()) return UnknownFlag(name, words);
    if (arg.find('=') != arg.npos) {
      sets.push_back(arg);
    } else if (i + 1 < args.size() && args[i + 1].compare(0, kDashes.size(), kDashes) != 0) {
      sets.push_back(fmt::format("{}={}", arg, args[++i]));
    } else {
      return absl::InvalidArgumentError(fmt::format("--{}: its value is missing", Shown(name)));
    }
  }
  return sets;
}

}  // namespace mobula
