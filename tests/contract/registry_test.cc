#include "backends/registry.h"

#include "backends/backends_config.h"
#include "engine/base/log.h"
#include "engine/memory/block_pool.h"
#include "gtest/gtest.h"

namespace mobula {
namespace {

// Makes an exporter of `settings`' type, or says that this build has none, and nothing else.
template <typename Settings>
void ExpectRow(Settings settings, bool built_in) {
  std::string lines;
  const auto log = Log::ForTesting(&lines);
  auto pool = BlockPool::Create(1U << 20);
  ASSERT_TRUE(pool.ok());
  const BackendConfig config{.name = "mine", .settings = std::move(settings)};
  const auto exporter = MakeExporter(config, {.pool = pool->get(), .log = log.get()});
  if (built_in) {
    ASSERT_TRUE(exporter.ok()) << exporter.status();
    EXPECT_TRUE((*exporter)->Shutdown().ok());
  } else {
    EXPECT_EQ(exporter.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_NE(std::string(exporter.status().message()).find("mine"), std::string::npos);
  }
}

TEST(RegistryTest, HasARowForEachTypeOfThisBuild) {
  ExpectRow(XrayBackendConfig{.region = "eu-west-1"}, HAVE_BACKEND_XRAY == 1);
  ExpectRow(FileBackendConfig{.path = "/nowhere/at/all"}, HAVE_BACKEND_FILE == 1);
  ExpectRow(NullBackendConfig{}, HAVE_BACKEND_NULL == 1);
}

}  // namespace
}  // namespace mobula
