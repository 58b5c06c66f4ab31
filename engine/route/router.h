// Which lanes a document goes to: the first route whose filter holds.
//
// Room:    hot. Match does not allocate.
// Threads: immutable after Create; all workers share one.
// Limits:  documents without fields (unscanned, T1S, raw) match only routes without `when`.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config/config.h"
#include "engine/filter/filter.h"
#include "engine/segment/document_kind.h"

namespace mobula {

class Router {
 public:
  static constexpr size_t kNoRoute = SIZE_MAX;

  // `backends` gives the order in which lanes are numbered. Without routes everything goes to all of them.
  static absl::StatusOr<std::unique_ptr<Router>> Create(const std::vector<RouteConfig>& routes,
                                                        const std::vector<BackendConfig>& backends);

  // The route of a document that was just scanned; kNoRoute when none matches.
  [[nodiscard]] size_t Match(DocumentKind kind, const FilterSubject& subject) const noexcept;

  [[nodiscard]] size_t size() const noexcept { return routes_.size(); }
  // Numbers of the lanes; empty: the document is filtered out.
  [[nodiscard]] const std::vector<size_t>& lanes(size_t route) const noexcept {
    return routes_[route].lanes;
  }
  // True when some filter may ask for the sender's address, which is not free to write down.
  [[nodiscard]] bool needs_source() const noexcept { return needs_source_; }

 private:
  struct Route {
    std::optional<Filter> when;
    std::vector<size_t> lanes;
  };
  Router() = default;

  std::vector<Route> routes_;
  bool needs_source_ = false;
};

}  // namespace mobula
