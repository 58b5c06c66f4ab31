// Tested by tests/unit/engine/sampling/default_rules_test.cc.
#include "engine/sampling/default_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "absl/strings/string_view.h"
#include "engine/sampling/pass_through.h"
#include "engine/sampling/sampling_paths.h"
#include "engine/segment/json_quote.h"
#include "engine/segment/json_reader.h"

namespace mobula {
namespace {

constexpr std::string_view kRule = "Default";
constexpr std::chrono::seconds kInterval{10};
constexpr std::chrono::seconds kLoan = 2 * kInterval;
constexpr size_t kDocumentsMax = 25;
constexpr size_t kClientsMax = 1024;
constexpr size_t kClientIdBytesMax = 64;

HttpReply Ok(std::string body) {
  HttpReply reply;
  reply.content_type = "application/json";
  reply.body = std::move(body);
  return reply;
}

HttpReply Invalid(std::string_view message) {
  return ServiceError(400, "InvalidRequestException", message);
}

}  // namespace

HttpReply DefaultRules::Answer(std::string_view path, std::string_view body, Time now,
                               int64_t wall) {
  const std::optional<JsonValue> request = ParseJson(body.empty() ? "{}" : body);
  if (!request || request->kind != JsonValue::Kind::kObject) {
    return ServiceError(400, "SerializationException", "the body is no JSON object");
  }
  if (path == kTargetsPath) return Targets(*request, now, wall);
  return path == kRulesPath ? Rules() : Ok(R"({"NextToken":null,"SamplingStatisticSummaries":[]})");
}

HttpReply DefaultRules::Rules() const {
  // Node takes no rule without Attributes.
  return Ok(fmt::format(
      R"({{"NextToken":null,"SamplingRuleRecords":[{{"CreatedAt":0.0,"ModifiedAt":{}.0,)"
      R"("SamplingRule":{{"RuleName":"{}","Priority":10000,"FixedRate":0.05,"ReservoirSize":1,)"
      R"("ServiceName":"*","ServiceType":"*","Host":"*","HTTPMethod":"*","URLPath":"*",)"
      R"("ResourceARN":"*","Version":1,"Attributes":{{}}}}}}]}})",
      start_, kRule));
}

HttpReply DefaultRules::Targets(const JsonValue& request, Time now, int64_t wall) {
  const JsonValue* const documents = request.Find("SamplingStatisticsDocuments");
  const bool none = documents == nullptr || documents->kind == JsonValue::Kind::kNull;
  if (!none && documents->kind != JsonValue::Kind::kArray) {
    return Invalid("SamplingStatisticsDocuments is no list");
  }
  const std::vector<JsonValue> nothing;
  const std::vector<JsonValue>& items = none ? nothing : documents->items;
  if (items.size() > kDocumentsMax) {
    return Invalid("there are more than 25 SamplingStatisticsDocuments");
  }
  for (const JsonValue& item : items) {
    const size_t id = item.FindString("ClientID").size();
    if (item.FindString("RuleName").empty() || id == 0 || id > kClientIdBytesMax) {
      return Invalid("a statistics document without a RuleName or ClientID");
    }
  }
  std::string targets;
  std::string unprocessed;
  for (const JsonValue& item : items) {
    if (const std::string_view name = item.FindString("RuleName"); name != kRule) {
      unprocessed +=
          fmt::format(R"({}{{"RuleName":{},"ErrorCode":"400","Message":"Unknown rule"}})",
                      unprocessed.empty() ? "" : ",", JsonQuote(name));
      continue;
    }
    const bool lent = LendReservoir(item.FindString("ClientID"), now);
    // Rounded down: nobody samples a second into the next one's loan.
    const auto left =
        std::chrono::duration_cast<std::chrono::seconds>(lent ? lent_until_ - now : kLoan);
    targets += fmt::format(
        R"({}{{"RuleName":"{}","FixedRate":0.05,"ReservoirQuota":{},"ReservoirQuotaTTL":{},)"
        R"("Interval":{}}})",
        targets.empty() ? "" : ",", kRule, lent ? 1 : 0, wall + left.count(), kInterval.count());
  }
  // Node takes no answer without a number as LastRuleModification.
  return Ok(fmt::format(R"({{"SamplingTargetDocuments":[{}],"LastRuleModification":{}.0,)"
                        R"("UnprocessedStatistics":[{}],"UnprocessedBoostStatistics":[]}})",
                        targets, start_, unprocessed));
}

bool DefaultRules::LendReservoir(std::string_view client, Time now) {
  absl::erase_if(clients_, [now](const auto& entry) { return entry.second.heard + kLoan <= now; });
  const absl::string_view key(client.data(), client.size());
  if (clients_.size() >= kClientsMax && !clients_.contains(key)) {
    clients_.erase(std::min_element(
        clients_.begin(), clients_.end(),
        [](const auto& a, const auto& b) { return a.second.heard < b.second.heard; }));
  }
  Client& asking = clients_.try_emplace(key, Client{now, now}).first->second;
  asking.heard = now;

  const bool lent = now < lent_until_;
  const bool mine = lent && client == borrower_;
  if (mine && clients_.size() > 1) return true;
  const bool first = std::none_of(clients_.begin(), clients_.end(), [&asking](const auto& entry) {
    return entry.second.without_since < asking.without_since;
  });
  if (!mine && (lent || !first)) return false;
  borrower_ = client;
  lent_until_ = now + kLoan;
  asking.without_since = lent_until_;
  return true;
}

}  // namespace mobula
