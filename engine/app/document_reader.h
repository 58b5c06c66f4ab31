// Reads documents and captured datagrams from files, folders and standard input, one after the other: what
// `mobula send` and `mobula replay` play.
//
// What a file holds is told by its name, `.gz`, `.zst` and the number of a rotated file apart:
//   .bin .packet     one datagram, header line included
//   .json            one document; blanks around it are not part of it
//   .jsonl .ndjson   a document a line; empty lines are none; so is standard input
//   .mobula          framed records; any file that begins like one is read as one, whatever its name
//   .spool           what is still to be sent of a spool file, also .spool.foreign and .spool.damaged; the same
// Of a folder, the files with these names are read, by name, not those in folders below.
//
// Room:      cold.
// Ownership: a document's bytes live until the next call.
// Errors:    what the system says, InvalidArgument for a file of no known kind, DataLoss for a damaged one,
//            always with its name, after the documents before (of a spool file, after all that can be read). The
//            reader is at its end then.
// Limits:    one document of at most 1 MiB in memory, or a frame of a spool, and what InputStream takes; the names in a
//            folder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/file/input_stream.h"
#include "engine/spool/inspect.h"

namespace mobula {

struct InputDocument {
  std::string_view bytes;
  bool has_header = false;  // a whole datagram: header line, LF, document
};

class DocumentReader {
 public:
  // `inputs` are files, folders or "-"; NotFound names the first that is not there. Where `stop` answers true,
  // Next answers Cancelled.
  static absl::StatusOr<std::unique_ptr<DocumentReader>> Open(
      const std::vector<std::string>& inputs, InputStream::StopCheck stop = {});

  // What will be read, folders as the files in them.
  [[nodiscard]] const std::vector<std::string>& files() const { return files_; }

  // The next document, or nothing at the end.
  absl::StatusOr<std::optional<InputDocument>> Next();

 private:
  enum class Kind : uint8_t { kUnknown, kDatagram, kDocument, kLines, kFramed, kSpool };

  DocumentReader(std::vector<std::string> files, InputStream::StopCheck stop)
      : files_(std::move(files)), stop_(std::move(stop)) {}

  static Kind KindByName(std::string_view path);
  absl::Status OpenNext();
  // The next document of the open file; nothing at its end.
  absl::StatusOr<std::optional<InputDocument>> NextInFile();
  absl::StatusOr<std::optional<InputDocument>> Whole();
  absl::StatusOr<std::optional<InputDocument>> Line();
  absl::StatusOr<std::optional<InputDocument>> Record();
  absl::StatusOr<std::optional<InputDocument>> Spooled();
  // Reads until `size` bytes are there or the file ends. False when it ended.
  absl::StatusOr<bool> Fill(size_t size);
  absl::StatusOr<bool> ReadMore();
  [[nodiscard]] std::string_view there() const { return std::string_view(buffer_).substr(begin_); }
  [[nodiscard]] const std::string& name() const { return files_[next_ - 1]; }

  std::vector<std::string> files_;
  InputStream::StopCheck stop_;
  size_t next_ = 0;  // of files_
  std::unique_ptr<InputStream> stream_;
  Kind kind_ = Kind::kUnknown;
  std::string buffer_;
  size_t begin_ = 0;    // of what was not handed out yet
  bool ended_ = false;  // the file holds nothing beyond the buffer
  // Of a spool file, which is not read as a stream.
  std::unique_ptr<SpoolScan> scan_;
  std::optional<SpooledFrame> frame_;
  DocumentSet left_ = 0;  // of the frame
};

}  // namespace mobula
