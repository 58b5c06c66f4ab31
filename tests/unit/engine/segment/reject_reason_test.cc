// The names of the reject reasons.
#include "engine/segment/reject_reason.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mobula {
namespace {

TEST(RejectReasonTest, EveryReasonHasItsOwnNameInSnakeCase) {
  std::set<std::string> names;
  for (int i = 0; i < kRejectReasonCount; ++i) {
    const std::string name(RejectReasonName(static_cast<RejectReason>(i)));
    EXPECT_NE(name, "unknown") << i;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string::npos) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
}

TEST(RejectReasonTest, NamesSayWhatTheLogSays) {
  EXPECT_EQ(RejectReasonName(RejectReason::kMissingHeader), "missing_header");
  EXPECT_EQ(RejectReasonName(RejectReason::kInvalidJson), "invalid_json");
  EXPECT_EQ(RejectReasonName(RejectReason::kInProgressHasEndTime), "in_progress_has_end_time");
  EXPECT_EQ(RejectReasonName(RejectReason::kTooLarge), "too_large");
  EXPECT_EQ(RejectReasonName(RejectReason::kRateLimited), "rate_limited");
}

}  // namespace
}  // namespace mobula
