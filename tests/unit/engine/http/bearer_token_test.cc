// Tests of engine/http/bearer_token.h.
#include "engine/http/bearer_token.h"

#include <gtest/gtest.h>

#include <string>

namespace mobula {
namespace {

using Verdict = BearerToken::Verdict;

TEST(BearerTokenTest, KnowsItsToken) {
  const std::string secret = "0123456789abcdef==";
  const BearerToken token(secret);
  EXPECT_EQ(token.Judge("Bearer " + secret), Verdict::kRight);
  EXPECT_EQ(token.Judge("bEARER   " + secret), Verdict::kRight);
  for (const std::string& shown :
       {std::string(), secret + "=", secret.substr(1), secret.substr(0, 17), secret + " ",
        std::string("0123456789ABCDEF=="), secret + std::string(1, '\0')}) {
    EXPECT_EQ(token.Judge("Bearer x" + shown), Verdict::kWrong) << shown;
    EXPECT_EQ(token.Judge("Bearer " + shown), Verdict::kWrong) << shown;
  }
}

TEST(BearerTokenTest, OtherSchemesShowNone) {
  const BearerToken token("0123456789abcdef");
  for (const char* shown :
       {"", "Bearer", "Basic dTpw", "0123456789abcdef", " Bearer 0123456789abcdef",
        "Bearer:0123456789abcdef", "Bearerx 0123456789abcdef"}) {
    EXPECT_EQ(token.Judge(shown), Verdict::kNone) << shown;
  }
  EXPECT_EQ(token.Judge("Bearer "), Verdict::kWrong);
  EXPECT_EQ(token.Judge("Bearer     "), Verdict::kWrong);
}

}  // namespace
}  // namespace mobula
