// Framing against the slow reference: any bytes as a datagram.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "engine/segment/framing.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/slow_json.h"

namespace {

using mobula::RejectReason;

RejectReason Expected(std::string_view datagram) {
  if (datagram.empty()) return RejectReason::kEmpty;
  const size_t lf = datagram.find('\n');
  if (lf == std::string_view::npos) return RejectReason::kMissingHeader;
  if (lf + 1 == datagram.size()) return RejectReason::kMissingSegment;
  return mobula::slow::IsHeader(datagram.substr(0, lf)) ? RejectReason::kNone
                                                        : RejectReason::kInvalidHeader;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, so that the address sanitizer sees a read past the end.
  const std::unique_ptr<char[]> copy(new char[size]);
  if (size > 0) std::memcpy(copy.get(), data, size);
  const std::string_view datagram(copy.get(), size);

  const mobula::Frame frame = mobula::Framing::Split(datagram);
  EXPECT(frame.reject == Expected(datagram));
  if (frame.reject == RejectReason::kNone) {
    EXPECT(frame.header.data() == datagram.data());
    EXPECT(frame.header.size() + 1 + frame.body.size() == datagram.size());
    EXPECT(datagram.find('\n') == frame.header.size());
    EXPECT(frame.body.data() + frame.body.size() == datagram.data() + datagram.size());
  }
  return 0;
}
