// Tests of engine/aws/credentials.h.
#include "engine/aws/credentials.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace mobula {
namespace {

TEST(CredentialsTest, TheProcessEnvironmentCountsEmptyAsUnset) {
  const Environment environment = ProcessEnvironment();
  ASSERT_EQ(::setenv("MOBULA_TEST_VARIABLE", "x", 1), 0);
  EXPECT_EQ(environment("MOBULA_TEST_VARIABLE"), "x");
  ASSERT_EQ(::setenv("MOBULA_TEST_VARIABLE", "", 1), 0);
  EXPECT_EQ(environment("MOBULA_TEST_VARIABLE"), std::nullopt);
  ASSERT_EQ(::unsetenv("MOBULA_TEST_VARIABLE"), 0);
  EXPECT_EQ(environment("MOBULA_TEST_VARIABLE"), std::nullopt);
}

}  // namespace
}  // namespace mobula
