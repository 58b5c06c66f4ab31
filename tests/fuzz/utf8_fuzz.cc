// UTF-8 check and repair against the slow reference.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "engine/segment/utf8.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/slow_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::unique_ptr<char[]> copy(new char[size]);
  if (size > 0) std::memcpy(copy.get(), data, size);
  const std::string_view bytes(copy.get(), size);

  const std::unique_ptr<char[]> out(new char[mobula::kUtf8RepairGrowth * size]);
  const std::string_view repaired(out.get(), mobula::RepairUtf8(bytes, out.get()));
  EXPECT(repaired == mobula::slow::Repaired(bytes));
  EXPECT(mobula::IsValidUtf8(repaired));
  EXPECT(mobula::IsValidUtf8(bytes) == (repaired == bytes));
  return 0;
}
