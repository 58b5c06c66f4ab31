// The hot room's rule: framing, scanning, fields and annotations never touch the heap.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "engine/segment/framing.h"
#include "engine/segment/segment_scanner.h"
#include "tests/unit/engine/segment/padded_text.h"

namespace {

size_t allocations = 0;

void* Allocate(size_t size, size_t alignment) {
  ++allocations;
  // aligned_alloc wants a multiple of the alignment.
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

}  // namespace

void* operator new(size_t size) {
  void* const memory = Allocate(size, alignof(std::max_align_t));
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(size_t size, std::align_val_t alignment) {
  void* const memory = Allocate(size, static_cast<size_t>(alignment));
  if (memory == nullptr) std::abort();
  return memory;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size, alignof(std::max_align_t));
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return Allocate(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new[](size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace mobula {
namespace {

std::vector<PaddedText> Datagrams() {
  const std::string header = "{\"format\":\"json\",\"version\":1}\n";
  const std::string entity =
      R"("id":"fa35b830a6eae8e6","name":"a","start_time":1,"end_time":2,)"
      R"("trace_id":"1-6b032d9c-fd1bb0ecdc976e5e8f1eeb6f","annotations":{"b":1},)";
  std::string deep = "{" + entity + "\"z\":0}";
  for (int i = 0; i < 300; ++i) {
    std::string outer = "{" + entity + "\"subsegments\":[" + deep + "]}";
    deep = std::move(outer);
  }
  std::vector<PaddedText> datagrams;
  for (const std::string& datagram : {
           header + "{" + entity + "\"z\":0}",
           header + deep,
           header + "{\"a\":\"" + std::string(65000, 'x') + "\"}",
           header + "{\"a\":[" + std::string(32000, '[') + std::string(32000, ']') + "]}",
           header + "{\"a\":1e400}",
           header + "{\"a\":\"\\ud800\"}",
           header + "{\"a\":\"" + std::string(60000, '\xff') + "\"}",
           header + "{\"a\":\"\xff\"}",
           header + "{\"a\":" + std::string(500, '9') + "}",
           header + "{\"a\":0." + std::string(2000, '7') + "}",
           header + std::string(65000, '{'),
           header + "T1Sabc",
           header + "x",
           std::string("{\"a\":[1],\"version\":1,\"FORMAT\":\"js\\u006fn\"}\n{}"),
           std::string("nonsense\n{}"),
           std::string("nonsense"),
       }) {
    datagrams.emplace_back(datagram);
  }
  return datagrams;
}

TEST(NoAllocationTest, CountsAllocations) {
  const size_t before = allocations;
  const std::vector<int> some(100);
  EXPECT_GT(allocations, before) << some.size();
}

TEST(NoAllocationTest, ScansEverythingWithoutTheHeap) {
  const std::vector<PaddedText> datagrams = Datagrams();
  for (const Validate validate : {Validate::kJson, Validate::kStrict, Validate::kOff}) {
    SegmentScanner scanner(validate);
    const size_t before = allocations;
    int scanned = 0;
    for (const PaddedText& datagram : datagrams) {
      const Frame frame = Framing::Split(datagram.view());
      if (frame.reject != RejectReason::kNone) continue;
      if (scanner.Scan(frame.body).kind != DocumentKind::kJson) continue;
      ++scanned;
      scanner.Fields();
      scanner.Annotation("b");
      scanner.Annotation("absent");
    }
    EXPECT_EQ(allocations, before);
    EXPECT_EQ(scanned > 0, validate != Validate::kOff);
  }
}

}  // namespace
}  // namespace mobula
