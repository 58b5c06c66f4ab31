// Tested by tests/unit/engine/route/router_test.cc.
#include "engine/route/router.h"

#include <fmt/format.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "engine/base/status_macros.h"

namespace mobula {

absl::StatusOr<std::unique_ptr<Router>> Router::Create(const std::vector<RouteConfig>& routes,
                                                       const std::vector<BackendConfig>& backends) {
  std::unique_ptr<Router> router(new Router());
  if (routes.empty()) {
    Route all;
    for (size_t i = 0; i < backends.size(); ++i) all.lanes.push_back(i);
    router->routes_.push_back(std::move(all));
  }
  for (const RouteConfig& config : routes) {
    Route route;
    if (!config.when.empty()) {
      ASSIGN_OR_RETURN(Filter filter, Filter::ParseForDocument(config.when));
      route.when = std::move(filter);
      router->needs_source_ |=
          absl::AsciiStrToLower(config.when).find("source") != std::string::npos;
    }
    for (const std::string& name : config.to) {
      const auto found = std::find_if(backends.begin(), backends.end(),
                                      [&](const BackendConfig& b) { return b.name == name; });
      if (found == backends.end()) {
        return absl::InvalidArgumentError(fmt::format("routes name an unknown backend: {}", name));
      }
      route.lanes.push_back(static_cast<size_t>(found - backends.begin()));
    }
    router->routes_.push_back(std::move(route));
  }
  return router;
}

size_t Router::Match(DocumentKind kind, const FilterSubject& subject) const noexcept {
  for (size_t i = 0; i < routes_.size(); ++i) {
    const Route& route = routes_[i];
    if (!route.when.has_value()) return i;
    if (kind == DocumentKind::kJson && route.when->Matches(subject)) return i;
  }
  return kNoRoute;
}

}  // namespace mobula
