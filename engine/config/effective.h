// The configuration in force, for people: every option that has a value, with where the value came from.
//
// Room: cold.
#pragma once

#include <string_view>

#include "engine/config/config.h"
#include "engine/config/yaml_tree.h"

namespace mobula {

// What `config` was read from, completed with defaults and in the order of the table, as a tree that is a
// configuration of the same meaning. Values stand as they were written, references unresolved; a password is `***`.
// `quoted` says which values are text, however they look. Each value's `origin` is "agent.yaml:12" (`name` is the file's), "MOBULA_LOG_LEVEL", "--set", "--log.level" or
// "default".
// REQUIRES: `config` was read from `root` without a mistake.
YamlNode EffectiveTree(const YamlNode& root, const Config& config, std::string_view name);

}  // namespace mobula
