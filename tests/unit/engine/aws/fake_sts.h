// STS for tests: keeps every call, checks what all must have in common, and answers as told.
#pragma once

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/aws/sigv4.h"
#include "tests/unit/engine/aws/answering_server.h"

namespace mobula::testing {

class FakeSts {
 public:
  struct Call {
    PeerRequest request;
    std::map<std::string, std::string> form;
  };

  FakeSts() = default;

  // The answer that gives credentials; `life` from now.
  static Answer Grant(const std::string& action, const std::string& id,
                      std::chrono::seconds life = std::chrono::hours(1)) {
    const std::time_t expiry =
        std::chrono::system_clock::to_time_t(std::chrono::system_clock::now() + life);
    return {200,
            fmt::format("<{0}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"
                        "<{0}Result><Credentials><AccessKeyId>{1}</AccessKeyId>"
                        "<SecretAccessKey>secret-of-{1}</SecretAccessKey>"
                        "<SessionToken>token/of+{1}==</SessionToken>"
                        "<Expiration>{2:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials></{0}Result>"
                        "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
                        "</{0}Response>",
                        action, id, fmt::gmtime(expiry)),

            "Content-Type: text/xml\r\n"};
  }

  static Answer Refuse(int status, const std::string& code, const std::string& message) {
    return {status,
            fmt::format("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>"
                        "<Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error>"
                        "<RequestId>r</RequestId></ErrorResponse>",
                        code, message),
            "Content-Type: text/xml\r\n"};
  }

  // Answered in this order, then credentials: "<role's last path part>-<number of the call>".
  void Next(Answer answer) {
    const std::lock_guard lock(mutex_);
    next_.push_back(std::move(answer));
  }
  // Every call for this role is refused.
  void Forbid(const std::string& role_arn) {
    const std::lock_guard lock(mutex_);
    forbidden_ = role_arn;
  }
  // How long the credentials live.
  void SetLife(std::chrono::seconds life) {
    const std::lock_guard lock(mutex_);
    life_ = life;
  }

  [[nodiscard]] std::vector<Call> calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  [[nodiscard]] std::string url() const { return server_.url(); }

  // The call's signature, as a client with these credentials must have made it.
  static std::string Signature(const PeerRequest& request, const std::string& region,
                               const Credentials& credentials) {
    std::tm date{};
    EXPECT_NE(::strptime(request.Header("X-Amz-Date").c_str(), "%Y%m%dT%H%M%SZ", &date), nullptr);
    const std::string host = request.Header("Host");
    const std::string type = request.Header("Content-Type");
    const std::pair<std::string_view, std::string_view> headers[] = {{"host", host},
                                                                     {"content-type", type}};
    return SigV4Signer(region, "sts")
        .Sign({"POST", "/", "", headers, Sha256().Update(request.body).Finish()}, credentials,
              std::chrono::system_clock::from_time_t(::timegm(&date)))
        .authorization;
  }

 private:
  static std::string Decode(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '%' && i + 2 < text.size()) {
        out.push_back(
            static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16)));
        i += 2;
      } else {
        EXPECT_NE(text[i], '+') << "ambiguous in a form";
        out.push_back(text[i]);
      }
    }
    return out;
  }

  Answer Serve(const PeerRequest& request) {
    Call call{request, {}};
    EXPECT_EQ(request.line, "POST / HTTP/1.1");
    EXPECT_EQ(request.Header("Content-Type"), "application/x-www-form-urlencoded; charset=utf-8");
    for (const absl::string_view part : absl::StrSplit(request.body, '&')) {
      const std::pair<std::string, std::string> field =
          absl::StrSplit(part, absl::MaxSplits('=', 1));
      EXPECT_TRUE(call.form.emplace(Decode(field.first), Decode(field.second)).second)
          << field.first << " twice";
    }
    EXPECT_EQ(call.form["Version"], "2011-06-15");
    const std::lock_guard lock(mutex_);
    calls_.push_back(call);
    if (!next_.empty()) {
      Answer answer = next_.front();
      next_.pop_front();
      return answer;
    }
    const std::string role = call.form["RoleArn"];
    if (role == forbidden_) {
      return Refuse(403, "AccessDenied", "User: arn:aws:sts::1:x is not authorized");
    }
    return Grant(call.form["Action"],
                 fmt::format("{}-{}", role.substr(role.rfind('/') + 1), calls_.size()), life_);
  }

  mutable std::mutex mutex_;
  std::deque<Answer> next_;
  std::string forbidden_;
  std::chrono::seconds life_ = std::chrono::hours(1);
  std::vector<Call> calls_;
  AnsweringServer server_{[this](const PeerRequest& request) { return Serve(request); }};
};

}  // namespace mobula::testing
