// Proof of the hot room: 100,000 datagrams of every kind without one heap allocation, mapping or mutex on
// the worker's thread. malloc and friends are interposed here, so this program cannot run under a sanitizer.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>

#include "tests/unit/engine/receive/worker_fixture.h"

namespace {

std::atomic<bool> armed{false};
std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> mappings{0};
std::atomic<uint64_t> mutexes{0};
thread_local bool watched = false;

void Saw(std::atomic<uint64_t>* counter) {
  if (watched && armed.load(std::memory_order_relaxed)) counter->fetch_add(1);
}

template <typename F>
F Next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
void* __libc_malloc(size_t);
void __libc_free(void*);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t n) {
  Saw(&allocations);
  return __libc_malloc(n);
}
void free(void* p) {
  Saw(&allocations);
  __libc_free(p);
}
void* calloc(size_t n, size_t size) {
  Saw(&allocations);
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  Saw(&allocations);
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) {
  Saw(&allocations);
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** out, size_t alignment, size_t n) {
  Saw(&allocations);
  *out = __libc_memalign(alignment, n);
  return *out == nullptr ? 12 : 0;
}
void* mmap(void* at, size_t length, int protection, int flags, int fd, off_t offset) noexcept {
  static const auto next = Next<void* (*)(void*, size_t, int, int, int, off_t)>("mmap");
  Saw(&mappings);
  return next(at, length, protection, flags, fd, offset);
}
int munmap(void* at, size_t length) noexcept {
  static const auto next = Next<int (*)(void*, size_t)>("munmap");
  Saw(&mappings);
  return next(at, length);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static const auto next = Next<int (*)(pthread_mutex_t*)>("pthread_mutex_lock");
  Saw(&mutexes);
  return next(mutex);
}
}

namespace mobula {
namespace {

class HotRoomTest : public WorkerFixture, public ::testing::WithParamInterface<ReceiveEngine> {};

// The counters must see what happens on a watched thread, or the proof below proves nothing.
TEST(HotRoomCanaryTest, SeesWhatItForbids) {
  std::thread thread([] {
    watched = true;
    armed = true;
    char* volatile p = new char[100];
    delete[] p;
    void* const m = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(m, 4096);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    armed = false;
  });
  thread.join();
  EXPECT_EQ(allocations.exchange(0), 2U);
  EXPECT_EQ(mappings.exchange(0), 2U);
  EXPECT_EQ(mutexes.exchange(0), 1U);
}

TEST_P(HotRoomTest, NeitherAllocatesNorMapsNorLocks) {
  std::string why;
  const absl::StatusOr<ReceiveEngine> engine = ChooseEngine(GetParam(), &why);
  if (!engine.ok()) GTEST_SKIP() << engine.status().message();
  in_worker_thread_ = [] { watched = true; };
  senders_ = {{*ParseIpNetwork("10.0.0.0/8"), *ParseIpNetwork("127.0.0.0/8")}, 10'000'000};
  const std::vector<RouteConfig> routes = {
      {"annotation.tenant = \"acme\" OR source BEGINSWITH \"10.\"", {"a", "b"}}, {"", {"c"}}};
  StartWorker(GetParam(), routes);
  const std::string header = "{\"format\": \"json\", \"version\": 1}\n";
  const std::vector<std::string> kinds = {
      header + Segment("plain"),
      header + Segment("routed", ",\"annotations\":{\"tenant\":\"acme\",\"n\":1}"),
      "{\"version\":1,\"format\":\"JSON\",\"x\":[]}\n" + Segment("odd header"),
      header + Segment("large", ",\"metadata\":\"" + std::string(20000, 'm') + "\""),
      header + Segment("bad utf8 \xc0"),
      header + Segment("huge", ",\"metadata\":{\"n\":1e999}"),
      header + "T1SAAAA",
      header + "{\"broken\":",
      "garbage without a header",
  };
  constexpr uint64_t kWarm = 2000;
  constexpr uint64_t kMeasured = 100'000;
  for (uint64_t i = 0; i < kWarm + kMeasured; ++i) {
    if (i == kWarm) armed = true;
    SendRaw(kinds[i % kinds.size()]);
    if (i % 500 != 499) continue;
    ASSERT_TRUE(Eventually([&] { return worker_->stats().datagrams.value() == i + 1; }));
    for (TestLane& lane : lanes_) TakeDocuments(&lane);
    TakeDocuments(&dead_);
    if (i % 5000 == 499) {
      worker_->Switch(MakeTable(routes, {"a", "b", "c"}, true));
      ASSERT_TRUE(Eventually([&] { return worker_->Switched(); }));
    }
    RejectSample sample;
    while (worker_->TakeSample(&sample)) {
    }
  }
  armed = false;
  EXPECT_EQ(allocations.exchange(0), 0U);
  EXPECT_EQ(mappings.exchange(0), 0U);
  EXPECT_EQ(mutexes.exchange(0), 0U);
  StopWorker();
  ExpectLedger(kWarm + kMeasured);
  for (const TestLane& lane : lanes_) EXPECT_EQ(lane.account.dropped_total(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Engines, HotRoomTest,
                         ::testing::Values(ReceiveEngine::kIoUring, ReceiveEngine::kRecvmmsg),
                         [](const auto& p) { return std::string(ReceiveEngineName(p.param)); });

}  // namespace
}  // namespace mobula
