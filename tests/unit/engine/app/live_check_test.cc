// Tests of engine/app/live_check.h, against an STS and an X-Ray of their own.
#include "engine/app/live_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>

#include "engine/aws/aws_context.h"
#include "engine/segment/json_reader.h"
#include "tests/unit/backends/file/file_test_support.h"
#include "tests/unit/engine/aws/answering_server.h"

namespace mobula {
namespace {

using testing::Answer;
using testing::AnsweringServer;
using ::testing::HasSubstr;
using testing::PeerRequest;
using testing::TemporaryFolder;
using testing::WriteFile;

constexpr std::string_view kRole = "arn:aws:iam::222222222222:role/tenant";

std::string CallerAnswer(const std::string& account, const std::string& arn) {
  return "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>" + arn + "</Arn><Account>" +
         account + "</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
}

Answer StsError(int status, const std::string& code) {
  return {.status = status,
          .body = "<ErrorResponse><Error><Type>Sender</Type><Code>" + code +
                  "</Code><Message>no \x1b[2J way</Message></Error></ErrorResponse>"};
}

Answer XrayError(int status, const std::string& code, const std::string& message) {
  return {.status = status,
          .body = "{\"Message\":\"" + message + "\"}",
          .headers = "x-amzn-ErrorType: " + code + "\r\n"};
}

class LiveCheckTest : public ::testing::Test {
 protected:
  LiveCheckTest() {
    environment_ = {{"AWS_ACCESS_KEY_ID", "AKIDBASE"},
                    {"AWS_SECRET_ACCESS_KEY", "secret/base"},
                    {"AWS_CONFIG_FILE", "/dev/null"},
                    {"AWS_SHARED_CREDENTIALS_FILE", "/dev/null"},
                    {"AWS_EC2_METADATA_DISABLED", "true"}};
    config_.aws.metadata = false;
    config_.proxy.address = "off";
    xray_config_.region = "eu-west-1";
    xray_config_.endpoint = xray_.url();
    xray_config_.sts_endpoint = sts_.url();
    xray_config_.telemetry = false;
  }

  std::vector<LiveRow> Run() {
    BackendConfig backend;
    backend.name = "aws";
    backend.settings = xray_config_;
    config_.backends.push_back(backend);
    return RunAll();
  }
  std::vector<LiveRow> RunAll() {
    std::atomic<size_t> steps{0};
    const std::vector<LiveRow> rows = RunLiveCheck(
        config_,
        [this](std::string_view name) -> std::optional<std::string> {
          const auto found = environment_.find(std::string(name));
          if (found == environment_.end()) return std::nullopt;
          return found->second;
        },
        [&] { ++steps; });
    EXPECT_EQ(rows.size(), LiveRowCount(config_));
    EXPECT_EQ(steps.load(), rows.size());
    for (const LiveRow& row : rows) {
      EXPECT_EQ(row.fix.empty(), row.result != LiveResult::kFailed) << row.tried;
    }
    return rows;
  }
  static std::map<std::string, LiveResult> Results(const std::vector<LiveRow>& rows) {
    std::map<std::string, LiveResult> results;
    for (const LiveRow& row : rows) results[row.tried] = row.result;
    return results;
  }
  static const LiveRow& Find(const std::vector<LiveRow>& rows, std::string_view tried) {
    for (const LiveRow& row : rows) {
      if (row.tried == tried) return row;
    }
    ADD_FAILURE() << "no row " << tried;
    static const LiveRow none;
    return none;
  }

  Answer Sts(const PeerRequest& request) {
    const bool assumed = request.Header("authorization").find("ASIAROLE") != std::string::npos;
    if (request.body.find("Action=AssumeRole") != std::string::npos) {
      if (refuse_role_) return StsError(403, "AccessDenied");
      return {.body =
                  "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
                  "<AccessKeyId>ASIAROLE</AccessKeyId>"
                  "<SecretAccessKey>secret/role</SecretAccessKey>"
                  "<SessionToken>token/role</SessionToken>"
                  "<Expiration>2099-01-01T00:00:00Z</Expiration>"
                  "</Credentials></AssumeRoleResult></AssumeRoleResponse>"};
    }
    EXPECT_EQ(request.body, "Action=GetCallerIdentity&Version=2011-06-15");
    if (!identity_error_.empty()) return StsError(403, identity_error_);
    return {.body = assumed ? CallerAnswer("222222222222",
                                           "arn:aws:sts::222222222222:assumed-role/tenant/x")
                            : CallerAnswer("111111111111", "arn:aws:iam::111111111111:user/base")};
  }
  Answer Xray(const PeerRequest& request) {
    const auto found = xray_answers_.find(request.line);
    if (found != xray_answers_.end()) return found->second;
    return XrayError(400, "InvalidRequestException", "Segments can not be empty");
  }

  bool refuse_role_ = false;
  std::string identity_error_;
  std::map<std::string, Answer> xray_answers_ = {
      {"POST /GetSamplingRules HTTP/1.1", {.body = "{\"SamplingRuleRecords\":[]}"}}};
  AnsweringServer sts_{[this](const PeerRequest& request) { return Sts(request); }};
  AnsweringServer xray_{[this](const PeerRequest& request) { return Xray(request); }};
  Config config_;
  XrayBackendConfig xray_config_;
  std::map<std::string, std::string> environment_;
};

TEST_F(LiveCheckTest, TellsSourceAccountAndPermissionOfEachStep) {
  xray_config_.role.role_arn = kRole;
  xray_config_.telemetry = true;
  config_.proxy.address = "auto";
  const std::vector<LiveRow> rows = Run();
  EXPECT_TRUE(LivePassed(rows)) << LiveTable(rows, false);
  ASSERT_EQ(rows.size(), 7U);
  EXPECT_EQ(rows[0].tried, "region");
  EXPECT_EQ(rows[0].answer, "eu-west-1");
  EXPECT_EQ(rows[0].source, "configuration");
  EXPECT_EQ(rows[1].tried, "credentials");
  EXPECT_EQ(rows[1].source, "environment");
  EXPECT_EQ(rows[1].account, "111111111111");
  EXPECT_EQ(rows[2].tried, "role " + std::string(kRole));
  EXPECT_EQ(rows[2].account, "222222222222");
  EXPECT_EQ(rows[3].tried, "endpoint");
  EXPECT_EQ(rows[3].source, xray_.url());
  for (const size_t i : {size_t{4}, size_t{5}, size_t{6}}) {
    EXPECT_EQ(rows[i].answer, "allowed") << rows[i].tried;
    EXPECT_EQ(rows[i].account, "222222222222");
  }
  // Nothing that could be kept was sent, and all of it in the role's name.
  for (const PeerRequest& request : xray_.requests()) {
    EXPECT_THAT(request.Header("authorization"), HasSubstr("ASIAROLE"));
    EXPECT_THAT(request.body, ::testing::AnyOf("{}", "{\"TraceSegmentDocuments\":[]}",
                                               "{\"TelemetryRecords\":[]}"));
  }
}

TEST_F(LiveCheckTest, TakesADeniedActionForWhatItIs) {
  config_.proxy.address = "auto";
  const Answer denied =
      XrayError(403, "AccessDeniedException", "User is not authorized to perform this");
  xray_answers_["POST /TraceSegments HTTP/1.1"] = denied;
  xray_answers_["POST /GetSamplingRules HTTP/1.1"] = denied;
  const std::vector<LiveRow> rows = Run();
  EXPECT_FALSE(LivePassed(rows));
  const LiveRow& put = Find(rows, "xray:PutTraceSegments");
  EXPECT_EQ(put.result, LiveResult::kFailed);
  EXPECT_THAT(put.answer, HasSubstr("AccessDeniedException"));
  EXPECT_THAT(put.fix, HasSubstr("arn:aws:iam::111111111111:user/base"));
  EXPECT_THAT(Find(rows, "xray:GetSamplingRules").fix, HasSubstr("receivers.proxy.address: off"));
  EXPECT_EQ(Find(rows, "endpoint").result, LiveResult::kOk);
}

TEST_F(LiveCheckTest, AnAccountThatStsWillNotTellIsNoFailure) {
  identity_error_ = "AccessDenied";
  const std::vector<LiveRow> rows = Run();
  EXPECT_TRUE(LivePassed(rows));
  const LiveRow& credentials = Find(rows, "credentials");
  EXPECT_EQ(credentials.account, "");
  EXPECT_THAT(credentials.answer, HasSubstr("account unknown"));
}

TEST_F(LiveCheckTest, KeysThatStsDoesNotKnowAre) {
  identity_error_ = "InvalidClientTokenId";
  const std::vector<LiveRow> rows = Run();
  const LiveRow& credentials = Find(rows, "credentials");
  EXPECT_EQ(credentials.result, LiveResult::kFailed);
  EXPECT_EQ(credentials.answer.find('\x1b'), std::string::npos) << "foreign bytes";
  EXPECT_EQ(Find(rows, "endpoint").result, LiveResult::kOk) << "asked without credentials";
  EXPECT_EQ(Find(rows, "xray:PutTraceSegments").result, LiveResult::kSkipped);
}

TEST_F(LiveCheckTest, ARoleThatIsRefusedEndsItsChainWithWhatToDo) {
  refuse_role_ = true;
  xray_config_.via = {{.role_arn = "arn:aws:iam::333333333333:role/hop"}};
  xray_config_.role.role_arn = kRole;
  const std::vector<LiveRow> rows = Run();
  EXPECT_EQ(Find(rows, "credentials").result, LiveResult::kOk);
  const LiveRow& hop = Find(rows, "role arn:aws:iam::333333333333:role/hop");
  EXPECT_EQ(hop.result, LiveResult::kFailed);
  EXPECT_THAT(hop.answer, HasSubstr("AccessDenied"));
  EXPECT_THAT(hop.fix, HasSubstr("arn:aws:iam::111111111111:user/base needs sts:AssumeRole"));
  EXPECT_EQ(Find(rows, "role " + std::string(kRole)).result, LiveResult::kSkipped);
  EXPECT_EQ(Find(rows, "endpoint").result, LiveResult::kOk);
}

TEST_F(LiveCheckTest, WithoutCredentialsTheEndpointIsStillTried) {
  environment_.erase("AWS_ACCESS_KEY_ID");
  environment_.erase("AWS_SECRET_ACCESS_KEY");
  const std::vector<LiveRow> rows = Run();
  EXPECT_EQ(Results(rows),
            (std::map<std::string, LiveResult>{{"region", LiveResult::kOk},
                                               {"credentials", LiveResult::kFailed},
                                               {"endpoint", LiveResult::kOk},
                                               {"xray:PutTraceSegments", LiveResult::kSkipped}}));
  ASSERT_EQ(xray_.requests().size(), 1U);
  EXPECT_EQ(xray_.requests()[0].Header("authorization"), "");
}

TEST_F(LiveCheckTest, WithoutARegionNothingElseIsTried) {
  xray_config_.region.clear();
  xray_config_.role.role_arn = kRole;
  const std::vector<LiveRow> rows = Run();
  EXPECT_EQ(Find(rows, "region").result, LiveResult::kFailed);
  for (size_t i = 1; i < rows.size(); ++i) EXPECT_EQ(rows[i].result, LiveResult::kSkipped);
  EXPECT_TRUE(xray_.requests().empty());
}

TEST_F(LiveCheckTest, SaysWhereTheRegionCameFrom) {
  xray_config_.region.clear();
  environment_["AWS_REGION"] = "eu-central-1";
  EXPECT_EQ(Find(Run(), "region").source, "AWS_REGION");
  config_.backends.clear();
  environment_.erase("AWS_REGION");
  environment_["AWS_DEFAULT_REGION"] = "eu-central-1";
  EXPECT_EQ(Find(Run(), "region").source, "AWS_DEFAULT_REGION");
}

TEST_F(LiveCheckTest, TellsNameConnectionAndTlsApart) {
  struct Case {
    std::string endpoint;
    std::string answer;
  };
  std::string closed;
  {
    const AnsweringServer gone([](const PeerRequest&) { return Answer{}; });
    closed = gone.url();
  }
  const testing::ScriptedServer plain([](testing::Peer& peer) {
    peer.Write("HTTP/1.1 400 Bad Request\r\n\r\n");
    peer.WaitForEnd();
  });
  for (const Case& c :
       {Case{"http://nowhere.invalid", "dns"}, Case{closed, "refused"},
        Case{"https://127.0.0.1:" + std::to_string(plain.port()), "tls_handshake"}}) {
    config_.backends.clear();
    xray_config_.endpoint = c.endpoint;
    const std::vector<LiveRow> rows = Run();
    const LiveRow& endpoint = Find(rows, "endpoint");
    EXPECT_EQ(endpoint.result, LiveResult::kFailed) << c.endpoint;
    EXPECT_TRUE(endpoint.answer.starts_with(c.answer)) << endpoint.answer;
    EXPECT_EQ(Find(rows, "xray:PutTraceSegments").result, LiveResult::kSkipped);
  }
}

TEST_F(LiveCheckTest, NamesWhoNamedAnAuthorityFileThatIsNotThere) {
  xray_config_.endpoint = "https://127.0.0.1:1";
  environment_["AWS_CA_BUNDLE"] = "/nonexistent/ca.pem";
  const LiveRow by_variable = Find(Run(), "endpoint");
  EXPECT_THAT(by_variable.answer, HasSubstr("\"/nonexistent/ca.pem\": No such file or directory"));
  EXPECT_THAT(by_variable.answer, ::testing::StartsWith("setup: "));
  EXPECT_THAT(by_variable.fix, HasSubstr("AWS_CA_BUNDLE"));
  config_.backends.clear();
  xray_config_.tls.ca = "/nonexistent/other.pem";
  EXPECT_THAT(Find(Run(), "endpoint").fix, HasSubstr("backends.aws.tls.ca"));
}

TEST_F(LiveCheckTest, LooksAtTheProxyThatTheWayLeadsThrough) {
  std::string closed;
  {
    const AnsweringServer gone([](const PeerRequest&) { return Answer{}; });
    closed = gone.url();
  }
  xray_config_.endpoint = "http://xray.example";
  environment_["https_proxy"] = closed;
  const LiveRow by_variable = Find(Run(), "endpoint");
  EXPECT_EQ(by_variable.result, LiveResult::kFailed);
  EXPECT_THAT(by_variable.fix,
              HasSubstr("the forward proxy " + closed.substr(7) + ", which https_proxy names"));
  EXPECT_THAT(by_variable.fix, HasSubstr("xray.example"));
  config_.backends.clear();
  environment_.erase("https_proxy");
  xray_config_.http_proxy = closed;
  EXPECT_THAT(Find(Run(), "endpoint").fix, HasSubstr(", which backends.aws.http_proxy names"));
}

TEST_F(LiveCheckTest, AnAnswerDoesNotSayWhatTheFixSays) {
  environment_.erase("AWS_ACCESS_KEY_ID");
  environment_.erase("AWS_SECRET_ACCESS_KEY");
  const LiveRow credentials = Find(Run(), "credentials");
  EXPECT_EQ(credentials.fix, kCredentialsHelp);
  EXPECT_THAT(credentials.answer, ::testing::EndsWith("AWS_EC2_METADATA_DISABLED is true"));
  config_.backends.clear();
  xray_config_.region.clear();
  EXPECT_THAT(Find(Run(), "region").answer, ::testing::EndsWith("(has no region)"));
}

TEST_F(LiveCheckTest, AThrottledQuestionIsUnknownAndAServerOutOfOrderAFailure) {
  config_.proxy.address = "auto";
  xray_answers_["POST /TraceSegments HTTP/1.1"] = XrayError(429, "ThrottledException", "slow");
  xray_answers_["POST /GetSamplingRules HTTP/1.1"] = {.status = 503};
  const std::vector<LiveRow> rows = Run();
  EXPECT_EQ(Find(rows, "xray:PutTraceSegments").result, LiveResult::kUnknown);
  EXPECT_EQ(Find(rows, "xray:GetSamplingRules").result, LiveResult::kFailed);
}

TEST_F(LiveCheckTest, DoesNotWaitForAServiceThatHangs) {
  xray_answers_["POST /TraceSegments HTTP/1.1"] = {.hang = true};
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(Find(Run(), "endpoint").answer, HasSubstr("timeout"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));
}

TEST_F(LiveCheckTest, LooksAtFilesWithoutMakingThem) {
  const TemporaryFolder folder;
  WriteFile(folder / "there", "12345");
  std::filesystem::create_directory(folder / "sub");
  const auto add = [&](const std::string& name, const std::string& path) {
    BackendConfig backend;
    backend.name = name;
    backend.settings = FileBackendConfig{.path = path};
    config_.backends.push_back(backend);
  };
  add("new", folder / "new");
  add("there", folder / "there");
  add("sub", folder / "sub");
  add("deep", folder / "missing/folders/file");
  add("nowhere", folder / "there/file");
  add("stdout", "-");
  BackendConfig null;
  null.name = "null";
  null.settings = NullBackendConfig{};
  config_.backends.push_back(null);
  const std::vector<LiveRow> rows = RunAll();
  std::vector<LiveResult> results;
  for (const LiveRow& row : rows) results.push_back(row.result);
  EXPECT_EQ(results, (std::vector<LiveResult>{LiveResult::kOk, LiveResult::kOk, LiveResult::kFailed,
                                              LiveResult::kOk, LiveResult::kFailed, LiveResult::kOk,
                                              LiveResult::kOk}));
  EXPECT_THAT(rows[1].answer, HasSubstr("5 bytes"));
  EXPECT_FALSE(std::filesystem::exists(folder / "new"));
  EXPECT_FALSE(std::filesystem::exists(folder / "missing"));
}

TEST(LiveTableTest, AlignsItsColumnsAndPutsTheFixBelow) {
  const std::vector<LiveRow> rows = {
      {"a", "region", LiveResult::kOk, "AWS_REGION", "", "eu-west-1", ""},
      {"a", "credentials", LiveResult::kFailed, "", "", "none found", "set some"},
      {"b", "null", LiveResult::kOk, "", "", "keeps nothing", ""}};
  EXPECT_EQ(LiveTable(rows, false),
            "backend a\n"
            "  RESULT   TRIED        SOURCE      ACCOUNT  ANSWER\n"
            "  ok       region       AWS_REGION           eu-west-1\n"
            "  failed   credentials                       none found\n"
            "           -> set some\n"
            "\n"
            "backend b\n"
            "  RESULT   TRIED        SOURCE      ACCOUNT  ANSWER\n"
            "  ok       null                              keeps nothing\n");
  EXPECT_THAT(LiveTable(rows, true), HasSubstr("\x1b[31mfailed "));
}

TEST(LiveTableTest, SaysTheSameFixOnce) {
  const std::string text =
      LiveTable({{"a", "region", LiveResult::kFailed, "", "", "none", "set it"},
                 {"b", "region", LiveResult::kFailed, "", "", "none", "set it"}},
                false);
  EXPECT_EQ(text.find("set it"), text.rfind("set it"));
}

TEST(LiveJsonTest, IsJson) {
  const std::vector<LiveRow> rows = {
      {"a \"b\"", "region", LiveResult::kUnknown, "s", "1", "x\xff", "f"}};
  const auto json = ParseJson(LiveJson(rows));
  ASSERT_TRUE(json);
  const JsonValue* const checks = json->Find("checks");
  ASSERT_NE(checks, nullptr);
  ASSERT_EQ(checks->items.size(), 1U);
  EXPECT_EQ(checks->items[0].Find("backend")->string, "a \"b\"");
  EXPECT_EQ(checks->items[0].Find("result")->string, "unknown");
}

}  // namespace
}  // namespace mobula
