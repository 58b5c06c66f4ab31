#include "tests/sim/books.h"

#include <bit>

#include "engine/spool/crc32c.h"

namespace mobula::sim {

uint64_t Books::NewDocument(const Shape& shape, std::string* text) {
  const uint64_t number = documents_.size();
  WriteDocument(number, shape, text);
  documents_.push_back({shape, Crc32c(*text), 0, 0, {}});
  return number;
}

bool Books::IsText(uint64_t number, std::string_view text) const {
  return Crc32c(text) == documents_[number].crc;
}

void Books::Expect(uint64_t number, uint32_t keys, Time now) {
  Document& document = documents_[number];
  document.keys = keys;
  document.copies = static_cast<uint32_t>(copies_.size());
  document.accepted = now;
  copies_.resize(copies_.size() + static_cast<size_t>(std::popcount(keys)));
}

bool Books::Take(Key key, uint64_t number) {
  story_->Mix(number << 8 | key);
  if (!Expected(key, number)) {
    story_->Fail("document {} came to far side {}, which is not one of its own", number, key);
    return false;
  }
  Copy& copy = At(key, number);
  if (copy.taken < 255) ++copy.taken;
  if (copy.taken > copy.excused + 1) {
    story_->Fail("document {} came to far side {} {} times, of which {} are excused", number, key,
                 copy.taken, copy.excused);
  }
  return copy.taken == 1;
}

void Books::Excuse(Key key, uint64_t number) {
  Copy& copy = At(key, number);
  if (copy.excused < 254) ++copy.excused;
}

Books::Totals Books::Sum() const {
  Totals sum;
  sum.documents = documents_.size();
  sum.expected = copies_.size();
  for (const Copy& copy : copies_) {
    if (copy.taken > 0) {
      ++sum.arrived;
      sum.twice += copy.taken - 1U;
    } else if (copy.why != 0) {
      ++sum.lost;
      ++sum.why[std::countr_zero(copy.why)];
    }
  }
  return sum;
}

}  // namespace mobula::sim
