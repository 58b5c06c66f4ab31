#include "engine/spool/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace mobula {
namespace {

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32cTest, AnswersPublishedValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string up;
  for (char c = 0; c < 32; ++c) up.push_back(c);
  EXPECT_EQ(Crc32c(up), 0x46dd794eU);
  EXPECT_EQ(Crc32c(""), 0U);
}

TEST(Crc32cTest, InstructionAndTableAgreeOnEveryLengthAndStart) {
  std::mt19937_64 random(1);
  std::string bytes(300, ' ');
  for (char& c : bytes) c = static_cast<char>(random());
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t size = 0; begin + size <= bytes.size(); ++size) {
      const std::string_view part = std::string_view(bytes).substr(begin, size);
      ASSERT_EQ(Crc32c(part), Crc32cByTable(part));
    }
  }
}

TEST(Crc32cTest, GoesOnWhereItStopped) {
  EXPECT_EQ(Crc32c("56789", Crc32c("1234")), Crc32c("123456789"));
  EXPECT_EQ(Crc32cByTable("56789", Crc32cByTable("1234")), 0xe3069283U);
}

}  // namespace
}  // namespace mobula
