// Answers of AWS: any bytes have a meaning, within limits. The input's first line is the status, the second the
// x-amzn-errortype header, the third Date and Retry-After, the rest the body.
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

#include "backends/xray/answer.h"
#include "engine/aws/aws_error.h"
#include "tests/fuzz/expect.h"

namespace {

using mobula::Verdict;
using std::chrono::system_clock;

std::string_view TakeLine(std::string_view* text) {
  const std::string_view line = text->substr(0, text->find('\n'));
  text->remove_prefix(std::min(text->size(), line.size() + 1));
  return line;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(data, data + size);
  std::string_view text = input;
  mobula::HttpResponse response;
  const std::string_view status = TakeLine(&text);
  std::from_chars(status.data(), status.data() + status.size(), response.status);
  response.headers.emplace_back("x-amzn-ErrorType", TakeLine(&text));
  const std::string_view date = TakeLine(&text);
  response.headers.emplace_back("Date", date);
  response.headers.emplace_back("Retry-After", date);
  response.body = text;

  const mobula::AwsFault fault = mobula::ReadAwsFault(response);
  EXPECT(fault.code.size() <= 100);
  EXPECT(fault.message.size() <= 500);
  EXPECT(fault.code.find('#') == std::string::npos);
  EXPECT(mobula::BareAwsCode(fault.code) == fault.code);

  const auto signed_at = system_clock::from_time_t(1767225600);
  const mobula::AwsRefusal refusal = mobula::JudgeAwsRefusal(fault.code, response, signed_at);
  EXPECT(!(refusal.credentials && refusal.clock_error));
  if (refusal.clock_error) EXPECT(mobula::IsAwsClockFault(fault.code));

  const mobula::XrayAnswer answer = mobula::JudgeAnswer(response, signed_at);
  EXPECT(answer.result.retry_after >= mobula::Duration::zero());
  EXPECT(answer.result.retry_after <= std::chrono::hours(1));
  EXPECT(answer.result.code.size() <= 100);
  EXPECT(answer.result.message.size() <= 600);
  for (const auto& entry : answer.unprocessed) {
    EXPECT(entry.verdict == Verdict::kThrottled || entry.verdict == Verdict::kRefused);
    EXPECT(entry.code.size() <= 100 && entry.message.size() <= 500);
  }
  if (response.status / 100 == 2) {
    EXPECT(!answer.refresh_credentials && !answer.clock_error);
  } else {
    EXPECT(answer.refresh_credentials == refusal.credentials);
    EXPECT(answer.clock_error == refusal.clock_error);
    EXPECT(answer.result.verdict != Verdict::kDelivered);
    EXPECT(!answer.result.code.empty());
    EXPECT(answer.unprocessed.empty());
  }
  return 0;
}
