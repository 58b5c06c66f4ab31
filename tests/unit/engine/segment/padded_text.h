// A text in a buffer of its own with the readable bytes behind it that the scanner asks for.
#pragma once

#include <cstring>
#include <memory>
#include <string_view>

#include "engine/segment/segment_scanner.h"

namespace mobula {

class PaddedText {
 public:
  explicit PaddedText(std::string_view text, char padding = '\0')
      : size_(text.size()), bytes_(new char[text.size() + kScanPadding]) {
    std::memcpy(bytes_.get(), text.data(), size_);
    std::memset(bytes_.get() + size_, padding, kScanPadding);
  }

  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<char[]> bytes_;
};

}  // namespace mobula
