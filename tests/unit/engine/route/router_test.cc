#include "engine/route/router.h"

#include <gtest/gtest.h>

#include <cstring>

namespace mobula {
namespace {

class RouterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"a", "b", "c"}) {
      BackendConfig backend;
      backend.name = name;
      backends_.push_back(backend);
    }
  }
  // The route of a document, after scanning it as a worker does.
  size_t RouteOf(const Router& router, const std::string& document, std::string_view source = "") {
    std::memset(padded_, 0, sizeof padded_);
    std::memcpy(padded_, document.data(), document.size());
    const ScanResult scan = scanner_.Scan({padded_, document.size()});
    EXPECT_EQ(scan.reject, RejectReason::kNone);
    return router.Match(scan.kind, {&scanner_, source});
  }

  std::vector<BackendConfig> backends_;
  SegmentScanner scanner_{Validate::kJson};
  char padded_[4096];
};

TEST_F(RouterTest, SendsEverythingEverywhereWithoutRoutes) {
  const auto router = Router::Create({}, backends_);
  ASSERT_TRUE(router.ok());
  EXPECT_EQ(RouteOf(**router, "{}"), 0U);
  EXPECT_EQ((*router)->lanes(0), (std::vector<size_t>{0, 1, 2}));
}

TEST_F(RouterTest, TheFirstMatchWins) {
  const auto router = Router::Create(
      {{"service(\"x\")", {"b"}}, {"annotation.n = 1", {"c"}}, {"", {"a", "c"}}}, backends_);
  ASSERT_TRUE(router.ok());
  EXPECT_EQ(RouteOf(**router, "{\"name\":\"x\",\"annotations\":{\"n\":1}}"), 0U);
  EXPECT_EQ(RouteOf(**router, "{\"name\":\"y\",\"annotations\":{\"n\":1}}"), 1U);
  EXPECT_EQ(RouteOf(**router, "{\"name\":\"y\"}"), 2U);
  EXPECT_EQ((*router)->lanes(2), (std::vector<size_t>{0, 2}));
}

TEST_F(RouterTest, DocumentsWithoutFieldsMatchOnlyRoutesWithoutAFilter) {
  const auto router = Router::Create({{"!fault", {"a"}}, {"", {"b"}}}, backends_);
  ASSERT_TRUE(router.ok());
  EXPECT_EQ(RouteOf(**router, "{}"), 0U);
  EXPECT_EQ(RouteOf(**router, "T1SAAAA"), 1U);
  EXPECT_EQ(RouteOf(**router, "{\"n\":1e400}"), 1U) << "unscanned";
}

TEST_F(RouterTest, SaysWhenNothingMatches) {
  const auto router = Router::Create({{"fault", {"a"}}}, backends_);
  ASSERT_TRUE(router.ok());
  EXPECT_EQ(RouteOf(**router, "{}"), Router::kNoRoute);
}

TEST_F(RouterTest, WritesTheSenderDownOnlyWhenAFilterAsks) {
  EXPECT_FALSE((*Router::Create({{"fault", {"a"}}}, backends_))->needs_source());
  const auto router = Router::Create({{"SOURCE = \"10.0.0.1\"", {"a"}}}, backends_);
  ASSERT_TRUE(router.ok()) << router.status();
  EXPECT_TRUE((*router)->needs_source());
  EXPECT_EQ(RouteOf(**router, "{}", "10.0.0.1"), 0U);
  EXPECT_EQ(RouteOf(**router, "{}", "10.0.0.2"), Router::kNoRoute);
}

TEST_F(RouterTest, RefusesUnknownBackendsAndBadFilters) {
  EXPECT_FALSE(Router::Create({{"", {"nobody"}}}, backends_).ok());
  EXPECT_FALSE(Router::Create({{"fault AND", {"a"}}}, backends_).ok());
}

}  // namespace
}  // namespace mobula
