// Puts what the environment and the command line say into the tree of a configuration file.
//
// An option has one name everywhere: receivers.udp.address is --receivers.udp.address and
// MOBULA_RECEIVERS_UDP_ADDRESS. A map or a list is given as YAML: MOBULA_ROUTES, --routes.
//
// Room: cold.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/config/yaml_tree.h"

namespace mobula {

using Variables = std::vector<std::pair<std::string, std::string>>;

// "log.level=debug" from --set, "--log.level=debug" from a flag of that name.
absl::Status ApplySet(std::string_view set, YamlNode* root);

// Every variable that begins with MOBULA_ and a first word of the table; empty ones and those that Kubernetes makes
// of services are none. A backend in `names`, or in the tree, or with a MOBULA_BACKENDS_<NAME>_TYPE may be meant.
// Answers the mistakes, one line each.
std::vector<std::string> ApplyEnvironment(const Variables& variables,
                                          std::vector<std::string> names, YamlNode* root);

// The keys of the map `backends`.
std::vector<std::string> BackendNames(const YamlNode& root);

}  // namespace mobula
