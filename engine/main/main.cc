// The command line. Tested by the e2e suite.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "engine/app/replay_command.h"
#include "engine/app/run_command.h"
#include "engine/app/send_command.h"
#include "engine/app/version.h"

namespace {

using mobula::ConfigInput;

// 0: fine. 1: the program says what is wrong. 2: the command line is wrong.
int Finish(const absl::Status& status) {
  if (status.ok()) return 0;
  const bool colour = isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == nullptr;
  std::fprintf(stderr, "%s%s%s\n", colour ? "\x1b[31m" : "", std::string(status.message()).c_str(),
               colour ? "\x1b[0m" : "");
  return 1;
}

void AddConfigOptions(CLI::App* command, ConfigInput* input) {
  command->add_option("-c,--config", input->path, "Configuration file; - reads standard input")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--set", input->sets,
                   "Set one value over the file's, e.g. --set receivers.udp.address=127.0.0.1:3000")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

// A descriptor below 3 that is closed would be given to the first socket or file opened, and what is meant for
// the terminal would be written there. Read-only, so that a write still fails.
void FillStandardDescriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDONLY);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  FillStandardDescriptors();
  CLI::App app(
      "Mobula takes AWS X-Ray trace segments over UDP and delivers them: to X-Ray, to files, with "
      "every loss "
      "counted.",
      "mobula");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("mobula {}", mobula::kVersion));
  app.footer("Configuration: docs/configuration.md. Exit status: 0 fine, 1 failed, 2 wrong usage.");

  ConfigInput input;
  int status = 0;
  CLI::App* const run = app.add_subcommand("run", "Receive and deliver until SIGTERM or Ctrl-C");
  AddConfigOptions(run, &input);
  run->add_option_function<std::string>(
         "--log-format",
         [&input](const std::string& format) { input.sets.push_back("log.format=" + format); },
         "text or json; without it: text on a terminal, else json")
      ->type_name("FORMAT");
  run->callback([&] { status = mobula::RunAgent(input); });

  CLI::App* const check = app.add_subcommand(
      "check", "Read a configuration and say what it means, or what is wrong with it");
  AddConfigOptions(check, &input);
  check->callback([&] { status = Finish(mobula::CheckConfig(input)); });

  mobula::SendOptions send_options;
  bool send_json = false;
  CLI::App* const send =
      app.add_subcommand("send", "Play documents or captured datagrams to an address over UDP");
  send->add_option(
          "inputs", send_options.inputs,
          "Files, folders, or - : .bin .packet (datagrams), .json, .jsonl, .mobula; also .gz, .zst")
      ->type_name("FILE")
      ->required();
  send->add_option("--to", send_options.to, "Where to")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  send->add_option("--rate", send_options.rate, "Datagrams per second; 0: as fast as possible")
      ->type_name("N")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  send->add_option("--repeat", send_options.repeat, "Passes over the inputs")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e12))
      ->capture_default_str();
  send->add_flag("--fresh", send_options.fresh, "New ids in each pass, times as if recorded now");
  send->add_flag("--json", send_json, "The result as JSON, also on a terminal");
  send->callback([&] {
    status = mobula::SendCommand(send_options,
                                 send_json ? mobula::SendOutput::kJson : mobula::SendOutput::kAuto);
  });

  mobula::ReplayOptions replay_options;
  CLI::App* const replay = app.add_subcommand(
      "replay", "Deliver documents from files through a backend of a configuration");
  AddConfigOptions(replay, &replay_options.config);
  replay->add_option("--backend", replay_options.backend, "Which; not needed when there is one")
      ->type_name("NAME");
  replay->add_option("inputs", replay_options.inputs, "Files, folders, or - , as for send")
      ->type_name("FILE")
      ->required();
  replay->callback([&] { status = mobula::ReplayCommand(replay_options); });

  CLI::App* const version = app.add_subcommand("version", "Print the version");
  version->callback([] { std::printf("mobula %s\n", std::string(mobula::kVersion).c_str()); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mobula: %s\n", e.what());
    return 1;
  }
  // A full disk, or a closed output: the answer was not given.
  if (std::fflush(stdout) != 0) return 1;
  return status;
}
