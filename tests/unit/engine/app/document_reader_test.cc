#include "engine/app/document_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include "backends/file/compressor.h"
#include "backends/file/little_endian.h"
#include "backends/file/record_format.h"
#include "engine/base/unique_fd.h"
#include "tests/unit/backends/file/file_test_support.h"
#include "tests/unit/engine/spool/spool_fixture.h"

namespace mobula {
namespace {

using testing::TemporaryFolder;
using testing::WriteFile;

struct Outcome {
  std::vector<std::string> documents;
  std::vector<bool> has_header;
  absl::Status status;
};

Outcome Read(const std::vector<std::string>& inputs) {
  auto reader = DocumentReader::Open(inputs);
  if (!reader.ok()) return {{}, {}, reader.status()};
  Outcome outcome;
  while (true) {
    const auto document = (*reader)->Next();
    if (!document.ok()) {
      outcome.status = document.status();
      const auto after = (*reader)->Next();
      EXPECT_TRUE(after.ok() && !after->has_value()) << "an error ends the reader";
      return outcome;
    }
    if (!document->has_value()) return outcome;
    outcome.documents.emplace_back((*document)->bytes);
    outcome.has_header.push_back((*document)->has_header);
  }
}

std::string Framed(const std::vector<std::string>& documents) {
  std::string out(kFramedHeader);
  for (const std::string& document : documents) {
    char prefix[4];
    PutU32(static_cast<uint32_t>(document.size()), prefix);
    out.append(prefix, 4).append(document);
  }
  return out;
}

using Texts = std::vector<std::string>;

class DocumentReaderTest : public ::testing::Test {
 protected:
  std::string File(std::string_view name, std::string_view bytes) {
    WriteFile(folder_ / name, bytes);
    return folder_ / name;
  }
  TemporaryFolder folder_;
};

TEST_F(DocumentReaderTest, ADatagramIsTheWholeFileAsItIs) {
  const std::string bytes("{\"format\":\"json\",\"version\":1}\n{\"a\": 1}\r\n \0", 42);
  const Outcome outcome = Read({File("a.bin", bytes), File("b.packet", "x"), File("c.bin", "")});
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.documents, (Texts{bytes, "x", ""}));
  EXPECT_EQ(outcome.has_header, (std::vector<bool>{true, true, true}));
}

TEST_F(DocumentReaderTest, ADocumentLosesTheBlanksAroundIt) {
  const Outcome outcome = Read({File("a.json", "\n {\n  \"a\": 1\n}\n\n")});
  EXPECT_EQ(outcome.documents, (Texts{"{\n  \"a\": 1\n}"}));
  EXPECT_EQ(outcome.has_header, (std::vector<bool>{false}));
  EXPECT_EQ(Read({File("b.json", " \n")}).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(DocumentReaderTest, LinesAreDocumentsWhereverTheReadsEnd) {
  std::string text = "\n{}\r\n\n";
  Texts expected = {"{}"};
  for (int i = 0; i < 3000; ++i) {
    expected.push_back("{\"n\": \"" + std::string(static_cast<size_t>(i % 200), 'x') + "\"}");
    text += expected.back() + "\n";
  }
  expected.push_back("the last has no end");
  text += expected.back();
  const Outcome outcome =
      Read({File("a.jsonl", text), File("b.ndjson", "1\n2"), File("empty.jsonl", "")});
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  expected.insert(expected.end(), {"1", "2"});
  EXPECT_EQ(outcome.documents, expected);
}

TEST_F(DocumentReaderTest, FramedRecordsAreKeptByteForByte) {
  Texts expected = {std::string("\r\n\0\xff", 4), "{}", std::string(200'000, 'x')};
  for (int i = 0; i < 1000; ++i) expected.push_back(std::string(static_cast<size_t>(i) + 1, 'y'));
  EXPECT_EQ(Read({File("a.mobula", Framed(expected))}).documents, expected);
  // The first bytes decide, whatever the name.
  EXPECT_EQ(Read({File("a.jsonl", Framed(expected))}).documents, expected);
  EXPECT_EQ(Read({File("archive", Framed(expected))}).documents, expected);
  EXPECT_EQ(Read({File("empty.mobula", "")}).documents, Texts{});
}

TEST_F(DocumentReaderTest, DamagedFramedFilesGiveWhatIsWholeAndSaySo) {
  const std::string whole = Framed({"one", "two"});
  for (size_t cut = kFramedHeader.size() + 8; cut < whole.size(); ++cut) {
    const Outcome outcome = Read({File("a.mobula", whole.substr(0, cut))});
    EXPECT_EQ(outcome.documents, Texts{"one"}) << cut;
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << cut;
  }
  EXPECT_EQ(Read({File("a.mobula", whole + std::string("\0\0\0\0", 4))}).status.code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read({File("a.mobula", whole + "\xff\xff\xff\xff")}).status.code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(Read({File("a.mobula", "{}")}).status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(DocumentReaderTest, ReadsCompressedAndRotatedFilesByTheirNames) {
  for (const Compression compression : {Compression::kGzip, Compression::kZstd}) {
    const auto compressor = Compressor::Make(compression);
    const std::string suffix(CompressionSuffix(compression));
    std::string lines;
    std::string framed;
    compressor->Compress("{\"a\": 1}\n{\"b\": 2}\n", &lines);
    compressor->Compress(Framed({"x", "y"}), &framed);
    const Outcome outcome =
        Read({File("s.jsonl.2" + suffix, lines), File("s.mobula" + suffix, framed)});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.documents, (Texts{"{\"a\": 1}", "{\"b\": 2}", "x", "y"}));
  }
  EXPECT_EQ(Read({File("s.jsonl.17", "1\n")}).documents, Texts{"1"});
}

TEST_F(DocumentReaderTest, AFolderIsItsKnownFilesByName) {
  File("b.json", "2");
  File("a.bin", "1");
  File("README.md", "not this");
  std::filesystem::create_directory(folder_ / "c.json");
  EXPECT_EQ(Read({folder_ / "."}).documents, (Texts{"1", "2"}));
  EXPECT_EQ(Read({folder_ / "c.json"}).status.code(), absl::StatusCode::kNotFound);
}

TEST_F(DocumentReaderTest, SaysWhichFileIsMissingOrUnknown) {
  const Outcome missing = Read({folder_ / "nothing.json"});
  EXPECT_EQ(missing.status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(missing.status.message()).find("nothing.json"), std::string::npos);
  const Outcome unknown = Read({File("a.bin", "1"), File("a.txt", "x")});
  EXPECT_EQ(unknown.documents, Texts{"1"});
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(unknown.status.message()).find("a.txt"), std::string::npos);
}

TEST_F(DocumentReaderTest, RefusesDocumentsThatAreTooLargeInsteadOfKeepingThem) {
  const std::string large(kFramedDocumentBytesMax + 1, 'x');
  for (const char* name : {"a.json", "a.bin", "a.jsonl"}) {
    EXPECT_EQ(Read({File(name, large)}).status.code(), absl::StatusCode::kInvalidArgument) << name;
    const Outcome fits = Read({File(name, large.substr(1))});
    EXPECT_TRUE(fits.status.ok()) << fits.status;
    EXPECT_EQ(fits.documents.size(), 1U) << name;
  }
}

TEST_F(DocumentReaderTest, StandardInputIsLines) {
  const UniqueFd before(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  const UniqueFd input(open(File("in", "1\n2\n").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(dup2(input.get(), STDIN_FILENO), STDIN_FILENO);
  const Outcome outcome = Read({"-"});
  if (before.valid()) dup2(before.get(), STDIN_FILENO);
  EXPECT_EQ(outcome.documents, (Texts{"1", "2"}));
}

class SpooledDocumentsTest : public SpoolFixture {
 protected:
  // A spool file with three frames of two documents, of which the first frame's first is done.
  std::string SpoolFileBytes() {
    {
      const auto spool = OpenSpool();
      for (const char* name : {"a", "b", "c"}) {
        EXPECT_TRUE(Append(spool->lane("prod"), {name, std::string(name) + "2"}).ok());
      }
      spool->lane("prod")->Done(spool->lane("prod")->Next(now_)->token, 1);
    }
    return *disk_.Bytes(Files(".spool")[0]);
  }

  TemporaryFolder folder_;
};

TEST_F(SpooledDocumentsTest, WhatIsLeftIsRead) {
  const std::string bytes = SpoolFileBytes();
  for (const char* name : {"x.spool", "x.spool.foreign", "x.spool.damaged", "renamed", "x.json"}) {
    WriteFile(folder_ / name, bytes);
    const Outcome outcome = Read({folder_ / name});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.documents, (Texts{"a2", "b", "b2", "c", "c2"})) << name;
    EXPECT_FALSE(outcome.has_header[0]);
  }
}

TEST_F(SpooledDocumentsTest, DamageIsToldBehindWhatCanBeRead) {
  std::string bytes = SpoolFileBytes();
  const size_t frame = (bytes.size() - kSpoolFileHeaderBytes) / 3;
  bytes[kSpoolFileHeaderBytes + frame] ^= 1;
  WriteFile(folder_ / "x.spool", bytes);
  const Outcome outcome = Read({folder_ / "x.spool"});
  EXPECT_EQ(outcome.documents, (Texts{"a2", "c", "c2"}));
  EXPECT_TRUE(absl::IsDataLoss(outcome.status)) << outcome.status;
  WriteFile(folder_ / "y.spool", "{\"a\":1}\n" + std::string(200, 'x'));
  EXPECT_TRUE(absl::IsDataLoss(Read({folder_ / "y.spool"}).status));
  WriteFile(folder_ / "z.spool", "");
  const Outcome empty = Read({folder_ / "z.spool"});
  EXPECT_TRUE(empty.status.ok() && empty.documents.empty()) << empty.status;
}

}  // namespace
}  // namespace mobula
