#include "engine/base/printable.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

TEST(PrintableTest, TextStaysAsItIs) {
  for (const char* text : {"", "a b", "\"quotes\" \\ and = signs", "Grüße, 木星, 🛰"}) {
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(PrintableTest, ControlsOfEveryKindAreWrittenOut) {
  EXPECT_EQ(Printable("\x1b[2J\r\n\t\x7f"), "\\x1b[2J\\x0d\\x0a\\x09\\x7f");
  EXPECT_EQ(Printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "\\xc2\\x9b31m");  // CSI in one character
  EXPECT_EQ(Printable("\xc2\x85\xe2\x80\xa8"), "\\xc2\\x85\\xe2\\x80\\xa8");  // ends of lines
  EXPECT_EQ(Printable("\xe2\x80\xae\xe2\x81\xa6"),
            "\\xe2\\x80\\xae\\xe2\\x81\\xa6");  // turned around
}

TEST(PrintableTest, WhatIsNoUtf8IsWrittenOut) {
  EXPECT_EQ(Printable("\x9b\xff\xc3"), "\\x9b\\xff\\xc3");
  EXPECT_EQ(Printable("\xc0\x8a"), "\\xc0\\x8a");           // LF in two bytes
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // half of a pair
}

TEST(PrintableLinesTest, EndsOfLinesStay) {
  EXPECT_EQ(PrintableLines("a\nb\r\n\x1b"), "a\nb\\x0d\n\\x1b");
}

}  // namespace
}  // namespace mobula
