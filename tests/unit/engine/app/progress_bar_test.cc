#include "engine/app/progress_bar.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>

#include "engine/base/unique_fd.h"
#include "gtest/gtest.h"

namespace mobula {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// What was drawn on the terminal behind `master`.
std::string Drawn(int master) {
  std::string out;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = read(master, buffer, sizeof buffer)) > 0) out.append(buffer, static_cast<size_t>(n));
  return out;
}

TEST(ProgressBarTest, TextShowsShareRateAndWhatIsLeft) {
  EXPECT_EQ(ProgressBar::Text({4500, 10000, seconds(5)}, 100),
            "[#########           ]  45%  4,500 of 10,000  900/s  7 s left");
  EXPECT_EQ(ProgressBar::Text({0, 10, {}}, 100), "[                    ]   0%  0 of 10");
  EXPECT_EQ(ProgressBar::Text({10, 10, seconds(1)}, 100),
            "[####################] 100%  10 of 10  10/s  0 s left");
  EXPECT_EQ(ProgressBar::Text({1, 121, seconds(1)}, 100),
            "[                    ]   0%  1 of 121  1/s  2 min 0 s left");
  EXPECT_EQ(ProgressBar::Text({1, 4201, seconds(1)}, 100),
            "[                    ]   0%  1 of 4,201  1/s  1 h 10 min left");
}

TEST(ProgressBarTest, TextWithoutATotalCounts) {
  EXPECT_EQ(ProgressBar::Text({1234567, 0, seconds(1)}, 100), "1,234,567  1,234,567/s");
}

TEST(ProgressBarTest, StepsHaveNoRate) {
  EXPECT_EQ(ProgressBar::Text({3, 4, seconds(5), true}, 100),
            "[###############     ]  75%  3 of 4");
}

TEST(ProgressBarTest, TextFitsTheTerminal) {
  EXPECT_EQ(ProgressBar::Text({4500, 10000, seconds(5)}, 10), "[#########");
}

TEST(ProgressBarTest, GroupsDigitsByThree) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1000), "1,000");
  EXPECT_EQ(Grouped(18446744073709551615U), "18,446,744,073,709,551,615");
}

TEST(ProgressBarTest, BytesAndSpansHaveUnits) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1536), "1.5 KiB");
  EXPECT_EQ(BytesText((1U << 20) - 1), "1.0 MiB");
  EXPECT_EQ(BytesText(uint64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(BytesText(uint64_t{5000} << 40), "5000.0 TiB");
  EXPECT_EQ(SpanText(-1), "0 s");
  EXPECT_EQ(SpanText(59.5), "1 min 0 s");
  EXPECT_EQ(SpanText(100'000), "27 h 46 min");
}

TEST(ProgressBarTest, DrawsOnATerminalTenTimesASecondAndErasesTheLine) {
  const UniqueFd master(posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK));
  ASSERT_TRUE(master.valid());
  ASSERT_EQ(grantpt(master.get()), 0);
  ASSERT_EQ(unlockpt(master.get()), 0);
  char name[100];
  ASSERT_EQ(ptsname_r(master.get(), name, sizeof name), 0);
  const UniqueFd terminal(open(name, O_RDWR | O_NOCTTY));
  ASSERT_TRUE(terminal.valid());
  {
    ProgressBar bar(terminal.get());
    const Time begin = Time(seconds(1000));
    for (int ms = 0; ms < 1000; ++ms)
      bar.Update(static_cast<uint64_t>(ms), 1000, begin + milliseconds(ms));
  }
  const std::string drawn = Drawn(master.get());
  size_t redraws = 0;
  for (size_t at = 0; (at = drawn.find('[', at)) != std::string::npos; ++at) {
    redraws += drawn.compare(at, 3, "[K[") == 0 ? 1U : 0U;
  }
  EXPECT_EQ(redraws, 10U) << drawn;
  EXPECT_TRUE(drawn.ends_with("\r\x1b[K"));
}

TEST(ProgressBarTest, DrawsNothingElsewhere) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd in(ends[0]);
  const UniqueFd out(ends[1]);
  { ProgressBar(out.get()).Update(1, 2, Time(seconds(1))); }
  EXPECT_EQ(Drawn(in.get()), "");
}

}  // namespace
}  // namespace mobula
