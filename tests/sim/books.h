// What the outside world knows of every document: where it must arrive, how often it did, and why if it did not.
// Nothing here is asked of the code under test.
//
// Room:   test.
// Errors: what must not be is told to the Story as a failure.
// Limits: 32 far sides.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/time.h"
#include "tests/sim/documents.h"
#include "tests/sim/story.h"

namespace mobula::sim {

// A far side: a backend and its identity.
using Key = uint32_t;

// Why a document need not arrive.
enum Why : uint8_t {
  kDropped = 1,    // the lane gave it up and counted it
  kInMemory = 2,   // in memory at a crash
  kPowerCut = 4,   // on a disk that was not asked to keep it
  kDiskLost = 8,   // somebody else deleted or damaged the file
  kSetAside = 16,  // in a file that waits for its backend or for a repairer
  kForgotten = 32  // the spool gave up its file
};
// What a far side said of it for good, so that dropping it is right.
enum Said : uint8_t { kSaidRefused = 1, kSaidTooLarge = 2 };

class Books {
 public:
  struct Totals {
    uint64_t documents = 0;
    uint64_t expected = 0;  // documents times far sides
    uint64_t arrived = 0;
    uint64_t twice = 0;  // arrivals beyond the first
    uint64_t lost = 0;   // never arrived, with a reason
    uint64_t why[6] = {};
  };

  explicit Books(Story* story) : story_(story) {}

  void Reserve(size_t documents) {
    documents_.reserve(documents);
    copies_.reserve(documents);
  }
  // Makes a document; its text is in *text.
  uint64_t NewDocument(const Shape& shape, std::string* text);
  [[nodiscard]] const Shape& shape(uint64_t number) const { return documents_[number].shape; }
  [[nodiscard]] bool Known(uint64_t number) const { return number < documents_.size(); }
  // To the byte.
  [[nodiscard]] bool IsText(uint64_t number, std::string_view text) const;
  // The agent took it, for these far sides.
  void Expect(uint64_t number, uint32_t keys, Time now);
  [[nodiscard]] Time accepted(uint64_t number) const { return documents_[number].accepted; }
  [[nodiscard]] bool Expected(Key key, uint64_t number) const {
    return Known(number) && (documents_[number].keys >> key & 1) != 0;
  }

  // It arrived. False: it had before.
  bool Take(Key key, uint64_t number);
  [[nodiscard]] bool Taken(Key key, uint64_t number) { return At(key, number).taken > 0; }
  // It may arrive once more than so far allowed.
  void Excuse(Key key, uint64_t number);
  void Explain(Key key, uint64_t number, Why why) { At(key, number).why |= why; }
  // It is where it will be looked for again.
  void TakeBack(Key key, uint64_t number, Why why) {
    At(key, number).why &= static_cast<uint8_t>(~why);
  }
  void Say(Key key, uint64_t number, Said said) { At(key, number).said |= said; }
  [[nodiscard]] bool WasSaid(Key key, uint64_t number, Said said) {
    return (At(key, number).said & said) != 0;
  }

  // Calls f(key, number) for what neither arrived nor is explained.
  template <typename F>
  void ForEachMissing(F&& f) const {
    for (uint64_t number = 0; number < documents_.size(); ++number) {
      const Document& document = documents_[number];
      uint32_t at = document.copies;
      for (uint32_t keys = document.keys; keys != 0; keys &= keys - 1, ++at) {
        if (copies_[at].taken == 0 && copies_[at].why == 0) {
          f(static_cast<Key>(__builtin_ctz(keys)), number);
        }
      }
    }
  }
  [[nodiscard]] Totals Sum() const;

 private:
  struct Document {
    Shape shape;
    uint32_t crc = 0;
    uint32_t keys = 0;
    uint32_t copies = 0;  // of the first in copies_
    Time accepted{};
  };
  struct Copy {
    uint8_t taken = 0;
    uint8_t excused = 0;
    uint8_t why = 0;
    uint8_t said = 0;
  };

  Copy& At(Key key, uint64_t number) {
    const Document& document = documents_[number];
    const uint32_t before = document.keys & ((uint32_t{1} << key) - 1);
    return copies_[document.copies + static_cast<uint32_t>(__builtin_popcount(before))];
  }

  Story* const story_;
  std::vector<Document> documents_;
  std::vector<Copy> copies_;
};

}  // namespace mobula::sim
