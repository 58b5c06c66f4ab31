// What a document costs: the scan alone, with the fields, with X-Ray's checks, and the cold branches.
// Each case is compared with the slow reference before it is timed.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "engine/segment/segment_scanner.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/slow_json.h"

namespace mobula {
namespace {

// Members every segment of the SDKs has.
std::string Head(std::string_view name) {
  return R"({"id": "fa35b830a6eae8e6", "name": ")" + std::string(name) +
         R"(", "start_time": 1795370396.9424415, "trace_id": "1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f", )"
         R"("end_time": 1795370396.945643, )";
}

// The 732 bytes the budget of a segment is written for: a web request with annotations and metadata.
std::string TypicalDocument() {
  std::string document =
      Head("payments.example.com") +
      R"("in_progress": false, "annotations": {"order_id": "A-1001", "amount": 42.5, "retry": false}, )"
      R"("http": {"request": {"method": "GET", "url": "http://127.0.0.1:8102/api/orders/1001", )"
      R"("user_agent": "curl/7.88.1", "client_ip": "203.0.113.9"}, )"
      R"("response": {"status": 200, "content_length": 1207}}, )"
      R"("service": {"runtime": "CPython", "runtime_version": "3.11.7"}, )"
      R"("aws": {"xray": {"sdk": "X-Ray for Python", "sdk_version": "2.15.0"}}, )"
      R"("metadata": {"default": {"a": ")";
  const std::string tail = "\"}}}";
  document += std::string(732 - document.size() - tail.size(), 'm');
  return document + tail;
}

std::string DocumentWithSubsegments(int count) {
  std::string document = Head("scorekeep") + "\"subsegments\": [";
  for (int i = 0; i < count; ++i) {
    if (i > 0) document += ", ";
    document += Head("dynamodb") + R"("namespace": "aws", "annotations": {"n": )" +
                std::to_string(i) +
                R"(}, "http": {"response": {"status": 200}}, "aws": {"operation": "PutItem", )"
                R"("region": "us-west-2", "request_id": "JtmEVpgcXLjUx8TExPt76wuST2Zo2KyX", )"
                R"("retries": 0, "table_name": "scorekeep-user"}})";
  }
  return document + "]}";
}

// The document in a slot-like buffer with readable bytes behind it.
class Slot {
 public:
  explicit Slot(std::string_view text)
      : size_(text.size()), bytes_(new char[text.size() + kScanPadding]()) {
    std::memcpy(bytes_.get(), text.data(), size_);
  }
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<char[]> bytes_;
};

enum class Then { kNothing, kFields, kAbsentAnnotation };

void BM_Scan(benchmark::State& state, const std::string& text, Validate validate, Then then) {
  const Slot slot(text);
  SegmentScanner scanner(validate);
  const ScanResult answer = scanner.Scan(slot.view());
  const std::string repaired = slow::Repaired(text);
  const auto tokens = slow::Tokens(repaired);
  const bool well_formed = tokens && slow::DepthOfObject(*tokens).has_value();
  EXPECT((answer.reject == RejectReason::kNone) == well_formed);
  EXPECT(!well_formed || answer.document == repaired);
  for (auto _ : state) {
    ScanResult result = scanner.Scan(slot.view());
    benchmark::DoNotOptimize(result);
    if (then == Then::kFields) benchmark::DoNotOptimize(scanner.Fields().id.data());
    if (then == Then::kAbsentAnnotation) benchmark::DoNotOptimize(scanner.Annotation("absent"));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.SetItemsProcessed(state.iterations());
}

const std::string kTypical = TypicalDocument();
const std::string kNested = DocumentWithSubsegments(8);
const std::string kLargest = DocumentWithSubsegments(150);
const std::string kHugeNumber = "{\"n\":1e400," + TypicalDocument().substr(1);
const std::string kBadUtf8 = "{\"n\":\"\xff\"," + TypicalDocument().substr(1);
const std::string kDeep = "{\"a\":" + std::string(32000, '[') + std::string(32000, ']') + "}";
const std::string kBroken = TypicalDocument().substr(0, 731);

BENCHMARK_CAPTURE(BM_Scan, typical, kTypical, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, typical_fields, kTypical, Validate::kJson, Then::kFields);
BENCHMARK_CAPTURE(BM_Scan, typical_annotation, kTypical, Validate::kJson, Then::kAbsentAnnotation);
BENCHMARK_CAPTURE(BM_Scan, typical_strict, kTypical, Validate::kStrict, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, nested, kNested, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, nested_annotation, kNested, Validate::kJson, Then::kAbsentAnnotation);
BENCHMARK_CAPTURE(BM_Scan, nested_strict, kNested, Validate::kStrict, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, largest, kLargest, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, huge_number, kHugeNumber, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, bad_utf8, kBadUtf8, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, deep, kDeep, Validate::kJson, Then::kNothing);
BENCHMARK_CAPTURE(BM_Scan, broken, kBroken, Validate::kJson, Then::kNothing);

}  // namespace
}  // namespace mobula

BENCHMARK_MAIN();
