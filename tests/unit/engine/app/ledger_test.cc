#include "engine/app/ledger.h"

#include <gtest/gtest.h>

#include "engine/app/status_line.h"

namespace mobula {
namespace {

Ledger Example() {
  Ledger ledger;
  ledger.datagrams = 1'000'007;
  ledger.bytes = 700'000'000;
  ledger.accepted = 1'000'000;
  ledger.rejected = {{"invalid_header", 5}, {"invalid_json", 2}};
  ledger.routed = 999'000;
  ledger.filtered = 900;
  ledger.open = 100;
  ledger.kernel_drops = 3;
  ledger.lanes = {{"prod", 999'000, 998'000, {{"refused", 10}}, 990}};
  return ledger;
}

TEST(LedgerTest, BalancesOnlyWhenEverySumDoes) {
  EXPECT_TRUE(Example().balanced());
  Ledger lost = Example();
  lost.lanes[0].delivered -= 1;
  EXPECT_FALSE(lost.balanced());
  Ledger unseen = Example();
  unseen.datagrams += 1;
  EXPECT_FALSE(unseen.balanced());
  Ledger unrouted = Example();
  unrouted.open -= 1;
  EXPECT_FALSE(unrouted.balanced());
}

TEST(LedgerTest, DeadLettersAreBooksOfTheirOwn) {
  Ledger ledger = Example();
  ledger.dead_letters = Ledger::Lane{"dead_letter", 7, 5, {{"buffer_full", 2}}, 0};
  EXPECT_TRUE(ledger.balanced());
  EXPECT_NE(ledger.json().find("\"dead_letters\":{\"entered\":7,\"restored\":0,\"delivered\":5,"),
            std::string::npos);
  EXPECT_NE(ledger.text().find("dead letters not kept      2 of 7"), std::string::npos);
  EXPECT_EQ(ledger.lost_total(), 20U) << "a dead letter is already counted as rejected";
  ledger.dead_letters->delivered = 4;
  EXPECT_FALSE(ledger.balanced());
}

TEST(LedgerTest, JsonNamesEveryCount) {
  EXPECT_EQ(
      Example().json(),
      "{\"balanced\":true,\"ingest\":{\"datagrams\":1000007,\"bytes\":700000000,"
      "\"accepted\":1000000,\"rejected\":{\"invalid_header\":5,\"invalid_json\":2},"
      "\"routed\":999000,\"filtered\":900,\"open\":100,\"kernel_drops\":3},\"lanes\":{\"prod\":"
      "{\"entered\":999000,\"restored\":0,\"delivered\":998000,\"dropped\":{\"refused\":10},"
      "\"held\":990,"
      "\"spooled\":0}}}");
}

TEST(LedgerTest, WhatWaitsOnDiskIsNeitherHeldNorLost) {
  Ledger ledger = Example();
  ledger.lanes[0].restored = 500;
  ledger.lanes[0].spooled = 490;
  ledger.lanes[0].dropped["spool_expired"] = 10;
  EXPECT_TRUE(ledger.balanced());
  EXPECT_EQ(ledger.lost_total(), 30U);
  EXPECT_EQ(ledger.summary(),
            "delivered 998000, spooled 490, lost 30 (invalid_header 5, invalid_json 2, kernel 3, "
            "refused 10, spool_expired 10)");
  EXPECT_NE(ledger.text().find("delivered        998000 of 999500"), std::string::npos)
      << ledger.text();
  ledger.lanes[0].spooled = 489;
  EXPECT_FALSE(ledger.balanced());
}

TEST(LedgerTest, ACountThatFellBelowZeroDoesNotBalance) {
  Ledger ledger = Example();
  ledger.lanes[0].held -= 991;  // wraps
  ledger.lanes[0].delivered += 991;
  EXPECT_FALSE(ledger.balanced());
}

TEST(LedgerAuditTest, OnlyBooksAtRestAreJudged) {
  LedgerAudit audit;
  Ledger moving = Example();
  moving.lanes[0].held += 1;
  EXPECT_FALSE(audit.Look(moving)) << "something may be on its way";
  moving.datagrams += 1;
  EXPECT_FALSE(audit.Look(moving)) << "it moves";
  EXPECT_FALSE(audit.Look(Example()));
  EXPECT_FALSE(audit.Look(moving));
  EXPECT_TRUE(audit.Look(moving)) << "it does not";
  EXPECT_FALSE(audit.Look(moving)) << "told once";
  EXPECT_EQ(audit.bugs(), 1U);
  EXPECT_FALSE(audit.Look(Example(), /*last=*/true));
  EXPECT_EQ(audit.bugs(), 1U);
}

TEST(LedgerAuditTest, AtTheEndNothingMoves) {
  LedgerAudit audit;
  Ledger wrong = Example();
  wrong.accepted -= 1;
  EXPECT_TRUE(audit.Look(wrong, /*last=*/true));
  EXPECT_EQ(audit.bugs(), 1U);
}

TEST(LedgerTest, TextSaysWhenItDoesNotBalance) {
  EXPECT_EQ(Example().text().find("ledger: balanced\n"), 0U);
  Ledger lost = Example();
  lost.accepted += 1;
  EXPECT_EQ(lost.text().find("ledger: NOT BALANCED"), 0U);
}

TEST(StatusLineTest, FitsOnALineAndNamesReasons) {
  EXPECT_EQ(StatusLine::Text(Example(), 1234.4, 14 << 20),
            "received 1,234/s (1,000,007 in all)  delivered 998,000  held 1,090  memory 14 MiB  "
            "dropped 20 (invalid_header 5, invalid_json 2, kernel 3, refused 10)");
}

}  // namespace
}  // namespace mobula
