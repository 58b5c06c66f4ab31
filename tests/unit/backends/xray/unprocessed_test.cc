// Tests of backends/xray/unprocessed.h.
#include "backends/xray/unprocessed.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/backends/xray/batch_fixture.h"

namespace mobula {
namespace {

class UnprocessedTest : public testing::BatchFixture {};

TEST_F(UnprocessedTest, FindsDocumentsByTheirDecodedId) {
  const BatchRef batch = MakeBatch({Segment("1111111111111111"), Segment("2222222222222222"),
                                    R"({ "name":"x", "id" : "3333333333333\u0033\u00333" })"});
  UnprocessedMatcher matcher(*batch, batch->all());
  EXPECT_EQ(matcher.Find("3333333333333333")->index, 2U);
  const auto second = matcher.Find("2222222222222222");
  EXPECT_EQ(second->index, 1U);
  EXPECT_EQ(second->trace_id, "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f");
}

TEST_F(UnprocessedTest, SameIdsAreMatchedOneAfterTheOther) {
  const BatchRef batch = MakeBatch({Segment("a"), Segment("b"), Segment("a")});
  UnprocessedMatcher matcher(*batch, batch->all());
  EXPECT_EQ(matcher.Find("a")->index, 0U);
  EXPECT_EQ(matcher.Find("a")->index, 2U);
  EXPECT_FALSE(matcher.Find("a"));
}

TEST_F(UnprocessedTest, NothingMatchesWhatNobodySent) {
  const BatchRef batch = MakeBatch({Segment("a"), Segment("b"), "{\"id\":7}", "{\"id\":\"\"}"});
  UnprocessedMatcher matcher(*batch, 0b1101);
  EXPECT_FALSE(matcher.Find(""));
  EXPECT_FALSE(matcher.Find("ffffffffffffffff"));
  EXPECT_FALSE(matcher.Find("b"));  // in the batch, but not in this call
  EXPECT_TRUE(matcher.Find("a"));
}

TEST_F(UnprocessedTest, ReadsDocumentsAsLargeAsABatch) {
  const std::string text(200000, 'x');
  const BatchRef batch = MakeBatch({Segment("000000000000000a", ",\"user\":\"" + text + "\"")});
  UnprocessedMatcher matcher(*batch, batch->all());
  const auto match = matcher.Find("000000000000000a");
  ASSERT_TRUE(match);
  EXPECT_EQ(match->index, 0U);
}

TEST_F(UnprocessedTest, UnreadDocumentsHaveNoId) {
  const BatchRef batch = MakeBatch({"T1Sabcd", "{broken", "\xff"}, DocumentKind::kRaw);
  UnprocessedMatcher matcher(*batch, batch->all());
  EXPECT_FALSE(matcher.Find("T1Sabcd"));
}

TEST_F(UnprocessedTest, EntriesWithoutIdGoToDocumentsWithoutOneInOrder) {
  const BatchRef batch = MakeBatch({Segment("1111111111111111"), "{}", R"({"id":7})",
                                    Segment("not hex"), Segment("222222222222222"), "[1]"});
  UnprocessedMatcher matcher(*batch, 0b11'1101);  // the second is not in this call
  EXPECT_EQ(matcher.Find("not hex")->index, 3U);
  EXPECT_EQ(matcher.FindWithoutId()->index, 2U);
  EXPECT_EQ(matcher.FindWithoutId()->index, 4U);
  EXPECT_EQ(matcher.FindWithoutId()->index, 5U);
  EXPECT_FALSE(matcher.FindWithoutId());  // never a document whose id can be told
  EXPECT_EQ(matcher.Find("1111111111111111")->index, 0U);
}

TEST_F(UnprocessedTest, UnreadDocumentsTakeEntriesWithoutId) {
  const BatchRef batch = MakeBatch({"T1Sabcd", "{broken"}, DocumentKind::kRaw);
  UnprocessedMatcher matcher(*batch, batch->all());
  EXPECT_EQ(matcher.FindWithoutId()->index, 0U);
  EXPECT_EQ(matcher.FindWithoutId()->index, 1U);
  EXPECT_FALSE(matcher.FindWithoutId());
}

// What becomes of the documents of `batch`, by their index: '.' delivered, 't' throttled, 'a' again, 'r' refused.
std::string Fates(const Batch& batch, DocumentSet documents,
                  std::vector<XrayAnswer::Unprocessed> entries) {
  XrayAnswer answer;
  answer.unprocessed = std::move(entries);
  JoinUnprocessed(batch, documents, &answer, [](const auto&, const auto*) {});
  std::string fates(batch.size(), '.');
  for (const DocumentVerdict& d : answer.result.documents) {
    EXPECT_EQ(fates.at(d.index), '.') << "twice";
    EXPECT_NE(documents >> d.index & 1, 0U) << "not in the call";
    fates.at(d.index) = d.verdict == Verdict::kThrottled ? 't'
                        : d.verdict == Verdict::kRetry   ? 'a'
                                                         : 'r';
  }
  return fates;
}

TEST_F(UnprocessedTest, OfDocumentsThatAnEntryCannotTellApartNoneIsLost) {
  const std::string a = "aaaaaaaaaaaaaaaa";
  const std::string b = "bbbbbbbbbbbbbbbb";
  const XrayAnswer::Unprocessed throttled{a, "ThrottledException", "", Verdict::kThrottled};
  const XrayAnswer::Unprocessed failed{a, "InternalFailure", "", Verdict::kRetry};
  const XrayAnswer::Unprocessed refused{a, "InvalidSegment", "", Verdict::kRefused};
  const XrayAnswer::Unprocessed refused_b{b, "InvalidSegment", "", Verdict::kRefused};
  const BatchRef batch = MakeBatch({Segment(a), Segment(b), Segment(a), Segment(b)});
  const DocumentSet all = batch->all();
  EXPECT_EQ(Fates(*batch, all, {throttled}), "t.t.");
  EXPECT_EQ(Fates(*batch, all, {throttled, throttled}), "t.t.");
  EXPECT_EQ(Fates(*batch, all, {failed}), "a.a.");
  EXPECT_EQ(Fates(*batch, all, {refused}), "r.a.") << "the complete one is asked for again";
  EXPECT_EQ(Fates(*batch, all, {refused, refused}), "r.r.");
  EXPECT_EQ(Fates(*batch, all, {refused, throttled}), "t.t.");
  EXPECT_EQ(Fates(*batch, all, {refused_b, throttled, refused_b}), "trtr");
  EXPECT_EQ(Fates(*batch, 0b1110, {throttled, refused_b}), ".rta")
      << "the first is not in the call";
  EXPECT_EQ(Fates(*batch, 0b1110, {refused}), "..r.");
  EXPECT_EQ(Fates(*batch, all, {refused, refused, refused, throttled}), "r.r.")
      << "more entries than documents: the rest are about nobody";
}

TEST_F(UnprocessedTest, AThrottledDocumentWithoutIdMayBeAnyOfThem) {
  const std::string a = "aaaaaaaaaaaaaaaa";
  const BatchRef batch = MakeBatch({"{}", Segment(a), R"({"id":7})"});
  const XrayAnswer::Unprocessed throttled{"", "ThrottledException", "", Verdict::kThrottled};
  const XrayAnswer::Unprocessed refused{"", "MissingId", "", Verdict::kRefused};
  EXPECT_EQ(Fates(*batch, batch->all(), {throttled}), "t.t");
  EXPECT_EQ(Fates(*batch, batch->all(), {refused}), "r..");
  EXPECT_EQ(Fates(*batch, batch->all(), {refused, throttled}), "t.t");
}

}  // namespace
}  // namespace mobula
