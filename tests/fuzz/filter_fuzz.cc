// Filter expressions: any text is a filter or an error, and a filter's negation answers the opposite.
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/filter/filter.h"
#include "tests/fuzz/expect.h"

namespace {

using mobula::Filter;

constexpr std::array<std::string_view, 3> kDocuments = {
    R"({"name":"shop","id":"70de5b6f19ff9a0a","trace_id":"1-581cf771-a006649127e371903a2de979","start_time":1.0,)"
    R"("end_time":1.2,"origin":"AWS::EC2::Instance","user":"alice","error":true,"http":{"request":{"method":"GET",)"
    R"("url":"http://shop/a","user_agent":"m","client_ip":"10.1.2.3"},"response":{"status":404}},)"
    R"("aws":{"account_id":"1"},"annotations":{"a":"x","n":30,"t":true,"f":false,"d.d":1.5}})",
    R"({"name":"x","type":"subsegment","in_progress":true,"fault":true,"throttle":true})",
    R"({})",
};

// The documents, each held by a scanner of its own.
class Subjects {
 public:
  Subjects() {
    for (size_t i = 0; i < kDocuments.size(); ++i) {
      bytes_[i] = kDocuments[i];
      bytes_[i].append(mobula::kScanPadding, '\0');
      scanners_[i] = std::make_unique<mobula::SegmentScanner>(mobula::Validate::kJson);
      const auto result = scanners_[i]->Scan({bytes_[i].data(), kDocuments[i].size()});
      EXPECT(result.kind == mobula::DocumentKind::kJson);
    }
  }

  std::array<bool, kDocuments.size()> Judge(const Filter& filter) const {
    std::array<bool, kDocuments.size()> answers{};
    for (size_t i = 0; i < answers.size(); ++i) {
      answers[i] = filter.Matches({scanners_[i].get(), i == 0 ? "10.9.8.7" : ""});
    }
    return answers;
  }

 private:
  std::array<std::string, kDocuments.size()> bytes_;
  std::array<std::unique_ptr<mobula::SegmentScanner>, kDocuments.size()> scanners_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Subjects kSubjects;
  const std::string text(data, data + size);
  const auto filter = Filter::ParseForDocument(text);
  if (!filter.ok()) {
    EXPECT(filter.status().message().substr(0, 5) == "line ");
    return 0;
  }
  EXPECT(filter->text() == text);
  const auto answers = kSubjects.Judge(*filter);
  EXPECT(kSubjects.Judge(*filter) == answers);
  // Both may go over a limit that the text itself keeps.
  const auto negated = Filter::ParseForDocument("!(" + text + ")");
  const auto doubled = Filter::ParseForDocument("(" + text + ") AND NOT NOT (" + text + ")");
  if (negated.ok()) {
    const auto opposite = kSubjects.Judge(*negated);
    for (size_t i = 0; i < answers.size(); ++i) EXPECT(answers[i] != opposite[i]);
  }
  if (doubled.ok()) EXPECT(kSubjects.Judge(*doubled) == answers);
  return 0;
}
