// STS's answers: any bytes are credentials fit for a header, or an error that quotes nothing of them.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/aws/sts_answer.h"
#include "tests/fuzz/expect.h"

namespace {

bool IsClean(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string body(data, data + size);
  for (const char* const action : {"AssumeRole", "AssumeRoleWithWebIdentity"}) {
    const auto found = mobula::ParseStsAnswer(body, action);
    if (!found.ok()) {
      EXPECT(!found.status().message().empty() && found.status().message().size() < 200);
      continue;
    }
    EXPECT(size <= mobula::kStsAnswerBytesMax);
    EXPECT(IsClean(found->access_key_id));
    EXPECT(IsClean(found->secret_access_key));
    EXPECT(IsClean(found->session_token));
    EXPECT(found->expiry.has_value());
    EXPECT(body.find(std::string(action) + "Response") != std::string::npos);
  }
  return 0;
}
