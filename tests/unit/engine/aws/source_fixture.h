// What the tests of credential sources share: a loop, a home directory, and fetches that wait for their answer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "engine/aws/credentials_source.h"
#include "engine/http/io_loop.h"
#include "tests/unit/engine/aws/answering_server.h"
#include "tests/unit/engine/aws/fake_home.h"

namespace mobula::testing {

class SourceFixture : public ::testing::Test {
 protected:
  static Time In(Duration wait) { return std::chrono::steady_clock::now() + wait; }

  // Runs the loop until `start`'s callback was called; no test waits that long unless it fails.
  template <typename T>
  absl::StatusOr<T> Await(
      const std::function<void(std::function<void(absl::StatusOr<T>)>)>& start) {
    std::optional<absl::StatusOr<T>> answer;
    bool inside = true;
    start([&](absl::StatusOr<T> result) {
      EXPECT_FALSE(inside) << "called back from inside the call";
      EXPECT_FALSE(answer) << "answered twice";
      answer = std::move(result);
      loop_.Stop();
    });
    inside = false;
    loop_.RunUntil(In(std::chrono::seconds(20)));
    EXPECT_TRUE(answer) << "no answer at all";
    return answer.value_or(absl::InternalError("no answer at all"));
  }

  absl::StatusOr<Credentials> Fetch(CredentialsSource* source,
                                    Duration budget = std::chrono::seconds(10)) {
    return Await<Credentials>(
        [&](CredentialsSource::Done done) { source->Fetch(In(budget), std::move(done)); });
  }

  // What a status says, for EXPECT_THAT.
  static std::string Text(const absl::Status& status) { return std::string(status.message()); }

  IoLoop loop_;
  FakeHome home_;
};

}  // namespace mobula::testing
