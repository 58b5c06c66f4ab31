// The whole configuration as plain typed values: what files, environment and flags resolve to. No YAML here.
//
// Room:   cold.
// Limits: every value is already validated by LoadConfig (engine/config/loader.h), so users of these structs
//         check nothing again.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/base/aws_role.h"
#include "engine/base/ip_address.h"
#include "engine/base/log.h"
#include "engine/base/time.h"
#include "engine/segment/validate.h"

namespace mobula {

// When written bytes are forced to disk.
enum class FsyncPolicy : uint8_t { kNever, kInterval, kBatch };

// --- receivers.udp -------------------------------------------------------------------------------------
enum class ReceiveEngine : uint8_t { kAuto, kIoUring, kRecvmmsg };

struct UdpConfig {
  std::string address = "127.0.0.1:2000";  // host:port, [v6]:port, :port (dual stack), name:port
  ReceiveEngine engine = ReceiveEngine::kAuto;
  // 0 = auto: one below 8 allowed cores, else one per 8, at most 8. -1 = per-core.
  int workers = 0;
  // Effective kernel queue per worker in bytes (the kernel doubles what SO_RCVBUF asks for).
  uint64_t receive_buffer = 8ULL << 20;
  // Sockets per worker; 0 = auto (several only when one cannot have receive_buffer).
  int sockets = 0;
  Validate validate = Validate::kJson;
  std::vector<IpNetwork> allow;  // who may send; empty: everybody
  // Documents a second of one source address, and at once; 0: no cap, and a second's worth.
  int source_rate = 0;
  int source_burst = 0;
};

// --- receivers.unix ------------------------------------------------------------------------------------
// Datagrams over a Unix socket: for pods that share a volume, and documents over UDP's 65,507 bytes.
struct UnixConfig {
  std::string path;  // empty: none; a socket file left over there is replaced
  int mode = 0666;   // of the socket's file: who may send
};

// --- receivers.proxy -----------------------------------------------------------------------------------
enum class ProxyPaths : uint8_t { kSampling, kAll };

// The TCP port on which SDKs ask for sampling rules and targets.
struct ProxyConfig {
  std::string address =
      "auto";           // "auto": TCP on the address and port of receivers.udp; "off"; host:port
  std::string backend;  // of type xray; empty: the first one, and without any the Default rule
  ProxyPaths paths = ProxyPaths::kSampling;
  Duration rules_age = std::chrono::seconds(60);  // for which rules are answered from the cache
};

// --- backends ------------------------------------------------------------------------------------------
struct TlsConfig {
  std::string ca;  // PEM file; empty: the system's
  bool verify = true;

  friend bool operator==(const TlsConfig&, const TlsConfig&) = default;
};

struct XrayBackendConfig {
  std::string region;              // empty: AWS_REGION, metadata, AWS_DEFAULT_REGION, profile
  std::string endpoint;            // empty: https://xray.<region>.<suffix of the partition>
  std::string profile;             // empty: AWS_PROFILE, else "default"
  std::vector<AwsRole> via;        // roles assumed, in this order, before `role`
  AwsRole role;                    // without role_arn: none
  std::string sts_endpoint;        // empty: AWS_ENDPOINT_URL_STS, else the regional one
  std::optional<bool> fips;        // absent: AWS_USE_FIPS_ENDPOINT, profile
  std::optional<bool> dual_stack;  // absent: AWS_USE_DUALSTACK_ENDPOINT, profile
  std::string http_proxy;          // empty: HTTPS_PROXY and NO_PROXY
  bool telemetry = true;           // PutTelemetryRecords, once a minute
  std::string resource_arn;        // in telemetry: what the agent runs on
  TlsConfig tls;
  int concurrency = 0;                          // calls in flight at most; 0 = adaptive up to 64
  Duration timeout = std::chrono::seconds(10);  // per call

  friend bool operator==(const XrayBackendConfig&, const XrayBackendConfig&) = default;
};

enum class FileFormat : uint8_t { kJsonLines, kFramed };
enum class Compression : uint8_t { kNone, kGzip, kZstd };

struct FileBackendConfig {
  std::string path;  // "-" is stdout
  FileFormat format = FileFormat::kJsonLines;
  Compression compression = Compression::kNone;
  uint64_t rotate_size = 0;  // bytes; 0 = never
  int rotate_keep = 5;       // files kept beside the open one
  FsyncPolicy fsync = FsyncPolicy::kNever;
  Duration fsync_interval = std::chrono::seconds(1);

  friend bool operator==(const FileBackendConfig&, const FileBackendConfig&) = default;
};

struct NullBackendConfig {
  friend bool operator==(const NullBackendConfig&, const NullBackendConfig&) = default;
};

struct BackendConfig {
  std::string name;
  // Bytes of the buffer this backend may hold while it is slow or down; 0 = an equal share.
  uint64_t quota = 0;
  std::variant<XrayBackendConfig, FileBackendConfig, NullBackendConfig> settings;

  [[nodiscard]] std::string_view type() const {
    constexpr std::string_view kNames[] = {"xray", "file", "null"};
    return kNames[settings.index()];
  }
  friend bool operator==(const BackendConfig&, const BackendConfig&) = default;
};

// --- routes --------------------------------------------------------------------------------------------
struct RouteConfig {
  std::string when;  // a filter expression, already parsed once without error; empty: always
  std::vector<std::string> to;  // names of backends; empty: drop, counted as filtered

  friend bool operator==(const RouteConfig&, const RouteConfig&) = default;
};

// --- the rest ------------------------------------------------------------------------------------------
enum class BufferFit : uint8_t { kRefuse, kShrink };

// What documents are kept in on disk when memory is not enough (engine/spool/spool.h).
struct SpoolConfig {
  std::string path;  // a directory, made if it is missing; empty: no spool
  uint64_t size = 1ULL << 30;
  Duration age = std::chrono::hours(24);
  uint64_t file_size = 8ULL << 20;
  FsyncPolicy fsync = FsyncPolicy::kInterval;
  Duration fsync_interval = std::chrono::seconds(1);
};

struct BufferConfig {
  uint64_t memory = 0;  // bytes; 0 = from the cgroup limit (design.md section 2)
  // What to do when the memory plan passes the cgroup's limit: refuse to start, or take less and say so.
  BufferFit fit = BufferFit::kRefuse;
  SpoolConfig spool;
};

struct BatchConfig {
  int documents = 50;
  Duration age = std::chrono::seconds(1);
};

struct DeadLetterConfig {
  std::string path;  // JSON lines; empty: refused documents are only counted and told in the log
  uint64_t size = 64ULL << 20;  // bytes; the file is rotated once (`.1`) and then overwritten

  friend bool operator==(const DeadLetterConfig&, const DeadLetterConfig&) = default;
};

struct AdminTlsConfig {
  std::string cert;       // PEM file, with its chain; empty: plain HTTP
  std::string key;        // PEM file
  std::string client_ca;  // PEM file; empty: clients are asked for no certificate
};

struct AdminConfig {
  std::string address = "127.0.0.1:2010";  // "off": no admin endpoint
  std::string token;                       // opens the pages that tell of documents; a secret
  AdminTlsConfig tls;
};

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  std::optional<LogFormat> format;  // absent: text on a terminal, else JSON
  std::string path;  // empty: stderr; "-": stdout; else a file, missing folders are made
  uint64_t rotate_size = 50ULL << 20;  // bytes; 0 = never
  int rotate_keep = 1;                 // older files kept
};

struct AwsConfig {
  // Whether EC2 and ECS metadata may be asked for region, host name and instance. Credentials of an EC2
  // instance's role do not depend on it.
  bool metadata = true;
};

enum class SeccompMode : uint8_t { kOff, kLog, kOn };

struct SecurityConfig {
  std::string user;  // NAME[:GROUP] or UID[:GID] that is run as; empty: whoever starts it
  SeccompMode seccomp = SeccompMode::kOn;
};

struct ShutdownConfig {
  Duration grace = std::chrono::seconds(20);
};

struct Config {
  UdpConfig udp;
  UnixConfig unix_socket;
  ProxyConfig proxy;
  BufferConfig buffer;
  BatchConfig batch;
  std::vector<BackendConfig> backends;  // in file order
  std::vector<RouteConfig> routes;      // in file order; without any: everything to all backends
  DeadLetterConfig dead_letter;
  AdminConfig admin;
  AwsConfig aws;
  LogConfig log;
  SecurityConfig security;
  ShutdownConfig shutdown;
  bool takeover = false;  // the port is taken from the agent that has it
  // Whether it is the X-Ray daemon's settings: messages then name those.
  bool of_daemon = false;
  // What is allowed but hardly meant, one line each, in the form of an error of LoadConfig.
  std::vector<std::string> warnings;
};

// The backend whose service answers the SDKs' sampling calls; null when there is none of type xray.
inline const BackendConfig* SamplingBackend(const Config& config) {
  for (const BackendConfig& backend : config.backends) {
    if (!std::holds_alternative<XrayBackendConfig>(backend.settings)) continue;
    if (config.proxy.backend.empty() || config.proxy.backend == backend.name) return &backend;
  }
  return nullptr;
}

}  // namespace mobula
