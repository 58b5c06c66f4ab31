// Tested by tests/unit/engine/config/reload_test.cc.
#include "engine/config/reload.h"

#include <string_view>
#include <utility>

#include "engine/config/options.h"

namespace mobula {
namespace {

// Of a backend, or of a route.
bool IsOfOneOfMany(const Option& option) {
  const std::string_view path = option.path;
  return path.substr(0, path.find_first_of(".[")) == "backends" || path.substr(0, 6) == "routes";
}

std::string Told(const std::string& text) { return text.empty() ? "none" : text; }

}  // namespace

std::vector<OptionChange> KeepForRestart(const Config& running, Config* next) {
  Config before = running;
  const OptionTarget from{&before};
  const OptionTarget to{next};
  std::vector<OptionChange> changes;
  for (const Option& option : Options()) {
    if (option.live || IsOfOneOfMany(option)) continue;
    std::string old_text = option.show(from);
    std::string new_text = option.show(to);
    if (old_text == new_text) continue;
    option.copy(from, to);
    if (option.secrecy != Secrecy::kNone) {
      for (std::string* const text : {&old_text, &new_text}) {
        if (!text->empty()) *text = "***";
      }
    }
    // A list is told as a whole: "receivers.udp.allow".
    changes.push_back({option.path.substr(0, option.path.find('[')), Told(std::move(old_text)),
                       Told(std::move(new_text))});
  }
  return changes;
}

}  // namespace mobula
