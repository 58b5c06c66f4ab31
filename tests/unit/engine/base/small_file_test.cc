// Tests of engine/base/small_file.h.
#include "engine/base/small_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/engine/aws/fake_home.h"

namespace mobula {
namespace {

using testing::FakeHome;

TEST(SmallFileTest, ReadsUpToTheLimit) {
  const FakeHome home;
  const std::string text(40'000, 'x');
  home.Write("file", text);
  const std::string path = home.path("file");
  EXPECT_EQ(*ReadSmallFile(path, 40'000), text);
  const absl::Status status = ReadSmallFile(path, 39'999).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find(path), std::string::npos);
  home.Write("file", "");
  EXPECT_EQ(*ReadSmallFile(path, 0), "");
}

TEST(SmallFileTest, TellsWhyThereIsNothing) {
  const FakeHome home;
  EXPECT_TRUE(absl::IsNotFound(ReadSmallFile(home.path("none"), 10).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadSmallFile("", 10).status()));
  home.Write("file", "text");
  EXPECT_TRUE(absl::IsNotFound(ReadSmallFile(home.path("file") / "below", 10).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadSmallFile(home.path(".aws"), 10).status()));
}

TEST(SmallFileTest, DoesNotWaitForAPipe) {
  const FakeHome home;
  const std::string path = home.path("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(*ReadSmallFile(path, 10), "");
}

TEST(SmallFileTest, AStampTellsAChange) {
  const FakeHome home;
  const std::string path = home.path("file");
  EXPECT_EQ(StampOf(path), StampOf(""));
  home.Write("file", "one");
  const FileStamp first = StampOf(path);
  EXPECT_NE(first, StampOf(""));
  EXPECT_EQ(StampOf(path), first);
  home.Write("file", "other");
  EXPECT_NE(StampOf(path), first);
}

}  // namespace
}  // namespace mobula
