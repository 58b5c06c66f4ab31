// The daemon's header table, row by row, and the corners of Go's decoder.
#include "engine/segment/framing.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace mobula {
namespace {

constexpr std::string_view kBlanks = "{\"format\": \"json\", \"version\": 1}";
constexpr std::string_view kDense = "{\"format\":\"json\",\"version\":1}";

RejectReason Verdict(const std::string& datagram) { return Framing::Split(datagram).reject; }

// The verdict on a header line with a body behind it.
RejectReason HeaderVerdict(std::string_view header) {
  return Verdict(std::string(header) + "\n{}");
}

TEST(FramingTest, SplitsAtTheFirstLineFeedAndTouchesNothing) {
  for (const std::string_view header : {kBlanks, kDense}) {
    for (const std::string& body : std::initializer_list<std::string>{"{\"id\":1}", " ", "not json",
                                                                      "\n", "a\nb\n", "{}{}"}) {
      const std::string datagram = std::string(header) + "\n" + body;
      const Frame frame = Framing::Split(datagram);
      EXPECT_EQ(frame.reject, RejectReason::kNone) << datagram;
      EXPECT_EQ(frame.header, header);
      EXPECT_EQ(frame.body, body);
      EXPECT_EQ(frame.body.data(), datagram.data() + header.size() + 1);
    }
  }
}

TEST(FramingTest, PassesBinaryBodies) {
  const std::string body("\0\xff\n\0", 4);
  EXPECT_EQ(Framing::Split(std::string(kDense) + "\n" + body).reject, RejectReason::kNone);
  EXPECT_EQ(Verdict(std::string(kBlanks) + "\n" + body), RejectReason::kNone);
}

TEST(FramingTest, AcceptsOtherSpellings) {
  for (const std::string_view header : {
           "{\"format\":\"json\",\"version\":1}\r",
           " \t{ \"version\" : 1 , \"format\" : \"json\" } ", "{\"format\":\"JSON\",\"version\":1}",
           "{\"FORMAT\":\"json\",\"VERSION\":1}",
           "{\"format\":\"json\",\"version\":1,\"sdk\":{\"a\":[1,\"}\\\"\",null]},\"b\":true}",
           "{\"a\":{},\"b\":[],\"format\":\"json\",\"c\":\"\\\\\",\"version\":1}",
           "{\"a\":[\"]\"],\"format\":\"json\",\"version\":1}",
           "{\"a\":[\"[\"],\"format\":\"json\",\"version\":1}",
           "{\"f\\u006frmat\":\"js\\u006Fn\",\"version\":1}",
           "{\"format\":\"j\\u017fon\",\"ver\xC5\xBFion\":1}",  // the long s folds to s
       }) {
    EXPECT_EQ(HeaderVerdict(header), RejectReason::kNone) << header;
  }
}

TEST(FramingTest, RefusesInvalidHeaders) {
  for (const std::string_view header : {
           "",
           "\r",
           "garbage",
           "{}",
           "[]",
           "null",
           "1",
           "[{\"format\":\"json\",\"version\":1}]",
           "{\"format\":\"json\"}",
           "{\"version\":1}",
           "{\"format\":\"json\",\"version\":2}",
           "{\"format\":\"json\",\"version\":\"1\"}",
           "{\"format\":\"json\",\"version\":1.0}",
           "{\"format\":\"json\",\"version\":1e0}",
           "{\"format\":\"json\",\"version\":-1}",
           "{\"format\":\"json\",\"version\":01}",
           "{\"format\":\"json\",\"version\":true}",
           "{\"format\":\"xml\",\"version\":1}",
           "{\"format\":\"jso\",\"version\":1}",
           "{\"format\":\"jsonx\",\"version\":1}",
           "{\"format\":\" json\",\"version\":1}",
           "{\"format\":\"js\\non\",\"version\":1}",
           "{\"format\":1,\"version\":1}",
           "{\"forma\":\"json\",\"version\":1}",
           "{\"format\":\"json\",\"version\":1} x",
           "{\"format\":\"json\",\"version\":1}{}",
           "{\"format\":\"json\",\"version\":1,}",
           "{\"format\":\"json\",\"version\":1",
           "{'format':'json','version':1}",
           "{\"a\":{\"format\":\"json\",\"version\":1}}",
           "\xEF\xBB\xBF{\"format\":\"json\",\"version\":1}",
       }) {
    EXPECT_EQ(HeaderVerdict(header), RejectReason::kInvalidHeader) << header;
  }
}

TEST(FramingTest, TakesTheLastUsableValueOfARepeatedName) {
  const auto verdict = [](const std::string& rest) {
    return HeaderVerdict("{\"format\":\"json\",\"version\":1," + rest + "}");
  };
  EXPECT_EQ(verdict("\"version\":\"2\""), RejectReason::kNone);
  EXPECT_EQ(verdict("\"version\":null"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"version\":[2]"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"version\":2.0"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"version\":9223372036854775808"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"format\":null"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"format\":7"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"version\":2,\"version\":1"), RejectReason::kNone);
  EXPECT_EQ(verdict("\"Version\":2"), RejectReason::kInvalidHeader);
  EXPECT_EQ(verdict("\"version\":9223372036854775807"), RejectReason::kInvalidHeader);
  EXPECT_EQ(verdict("\"version\":-0"), RejectReason::kInvalidHeader);
  EXPECT_EQ(verdict("\"format\":\"\""), RejectReason::kInvalidHeader);
}

TEST(FramingTest, IsAsLenientInUnknownMembersAsGo) {
  const auto verdict = [](const std::string& value) {
    return HeaderVerdict("{\"a\":" + value + ",\"format\":\"json\",\"version\":1}");
  };
  EXPECT_EQ(verdict("1e400"), RejectReason::kNone);
  EXPECT_EQ(verdict(std::string(500, '9')), RejectReason::kNone);
  EXPECT_EQ(verdict("\"\\ud800\""), RejectReason::kNone);
  EXPECT_EQ(verdict("\"\xff\""), RejectReason::kNone);
  // The object counts as the first of Go's 10,000 levels.
  EXPECT_EQ(verdict(std::string(9999, '[') + std::string(9999, ']')), RejectReason::kNone);
  EXPECT_EQ(verdict(std::string(10000, '[') + std::string(10000, ']')),
            RejectReason::kInvalidHeader);
  EXPECT_EQ(verdict("\"\x01\""), RejectReason::kInvalidHeader);
  EXPECT_EQ(verdict("\"\\x\""), RejectReason::kInvalidHeader);
}

TEST(FramingTest, RefusesADatagramWithoutBytes) {
  EXPECT_EQ(Framing::Split({}).reject, RejectReason::kEmpty);
}

TEST(FramingTest, RefusesADatagramWithoutLineFeed) {
  for (const std::string& datagram : {std::string(kDense), std::string(kBlanks), std::string("{}"),
                                      std::string("x"), std::string(65507, '{')}) {
    const Frame frame = Framing::Split(datagram);
    EXPECT_EQ(frame.reject, RejectReason::kMissingHeader);
    EXPECT_EQ(frame.header, datagram);
    EXPECT_TRUE(frame.body.empty());
  }
}

TEST(FramingTest, RefusesAnEmptyBodyBeforeItLooksAtTheHeader) {
  EXPECT_EQ(Verdict(std::string(kDense) + "\n"), RejectReason::kMissingSegment);
  EXPECT_EQ(Verdict(std::string(kBlanks) + "\n"), RejectReason::kMissingSegment);
  EXPECT_EQ(Verdict("garbage\n"), RejectReason::kMissingSegment);
  EXPECT_EQ(Verdict("\n"), RejectReason::kMissingSegment);
}

TEST(FramingTest, RefusesALineFeedInFrontOfTheHeader) {
  EXPECT_EQ(Verdict("\n" + std::string(kDense) + "\n{}"), RejectReason::kInvalidHeader);
}

TEST(FramingTest, TellsTheRefusedHeaderForTheLog) {
  const Frame frame = Framing::Split("nonsense\n{}");
  EXPECT_EQ(frame.reject, RejectReason::kInvalidHeader);
  EXPECT_EQ(frame.header, "nonsense");
}

TEST(FramingTest, AcceptsAHeaderAsLongAsADatagram) {
  const std::string start = "{\"format\":\"json\",\"version\":1,\"a\":\"";
  const std::string header = start + std::string(65507 - start.size() - 4, 'x') + "\"}";
  EXPECT_EQ(Verdict(header + "\n1"), RejectReason::kNone);
  EXPECT_EQ(Verdict(header.substr(1) + "\n1"), RejectReason::kInvalidHeader);
}

}  // namespace
}  // namespace mobula
