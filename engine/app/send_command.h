// `mobula send`: plays documents or captured datagrams to an address, over UDP or a Unix socket, at a rate.
//
// Room:   cold; its own process.
// Errors: absl::Status for what keeps it from sending at all, OutOfRange for a rate or repeat that is none; what
//         happens to single datagrams is counted in the result, by the name of the error.
// Limits: inputs up to 64 MiB are read before the first datagram leaves and played from memory; larger ones, and
//         standard input, are read while sending.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/app/document_reader.h"
#include "engine/app/output_form.h"
#include "engine/app/progress_bar.h"
#include "engine/base/time.h"

namespace mobula {

struct SendOptions {
  std::vector<std::string> inputs;    // files, folders, "-"
  std::string to = "127.0.0.1:2000";  // or "unix:/path"
  uint64_t rate = 1000;               // datagrams per second, at most 1e9; 0: as fast as possible
  uint64_t repeat = 1;                // passes over the inputs, 1 to 1e12
  bool fresh = false;                 // other ids in each pass, times as if recorded now
};

struct SendResult {
  uint64_t offered = 0;  // datagrams read
  uint64_t sent = 0;     // that the kernel took
  uint64_t bytes = 0;    // of those
  double seconds = 0;
  // How often the kernel said what: "ECONNREFUSED" (nobody listens; some of `sent` went nowhere), "ENOBUFS",
  // "EMSGSIZE", ...
  std::map<std::string, uint64_t> errors;
  bool stopped = false;  // by a signal, before the end
};

// Sleeps until `until`, or not at all when that has passed; true: stop.
using SendWait = std::function<bool(Time until)>;

// What is sent, datagram by datagram.
class DatagramSource {
 public:
  virtual ~DatagramSource() = default;
  // How many there are; 0: unknown.
  [[nodiscard]] virtual uint64_t total() const = 0;
  // Replaces *datagram by the next one; false at the end. Cancelled ends the sending like a signal.
  virtual absl::StatusOr<bool> Next(std::string* datagram) = 0;
};

// Replaces *datagram by the document, behind a header unless it has one.
void MakeDatagram(const InputDocument& document, std::string* datagram);

// `to` and `rate` as in SendOptions.
absl::StatusOr<SendResult> RunSend(const std::string& to, uint64_t rate, DatagramSource* source,
                                   ProgressBar* progress, const SendWait& wait);
absl::StatusOr<SendResult> RunSend(const SendOptions& options, ProgressBar* progress,
                                   const SendWait& wait);

// {"offered":N,"sent":N,"bytes":N,"seconds":S,"errors":{"ENOBUFS":N}}
std::string SendResultJson(const SendResult& result);
// For people, with what to do about errors.
std::string SendResultText(const SendResult& result, const std::string& to);

// The whole command: progress on stderr, the result on stdout, SIGINT, SIGTERM and SIGHUP end it early. Answers the
// exit status: 0 when every datagram was sent and none refused, 2 for OutOfRange, else 1.
int SendCommand(const SendOptions& options, OutputForm form);

}  // namespace mobula
