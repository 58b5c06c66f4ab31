// The command line. Tested by the e2e suite.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/app/config_command.h"
#include "engine/app/daemon_command.h"
#include "engine/app/health_command.h"
#include "engine/app/live_check.h"
#include "engine/app/migrate_command.h"
#include "engine/app/replay_command.h"
#include "engine/app/run_command.h"
#include "engine/app/send_command.h"
#include "engine/app/spool_command.h"
#include "engine/app/version.h"
#include "engine/base/printable.h"
#include "engine/config/did_you_mean.h"
#include "engine/config/option_flags.h"
#include "engine/config/options.h"
#include "engine/config/shown.h"

namespace {

using mobula::ConfigInput;

// 0: fine. 1: the program says what is wrong. 2: the command line is wrong.
int Finish(const absl::Status& status) {
  if (status.ok()) return 0;
  const bool colour = isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == nullptr;
  std::fprintf(stderr, "%s%s%s\n", colour ? "\x1b[31m" : "",
               mobula::PrintableLines(std::string(status.message())).c_str(),
               colour ? "\x1b[0m" : "");
  return 1;
}

int CheckLive(const ConfigInput& input, mobula::OutputForm form) {
  const absl::StatusOr<mobula::Config> config = mobula::LoadConfig(input);
  if (!config.ok()) return Finish(config.status());
  return mobula::LiveCheck(*config, form);
}

void AddConfigOptions(CLI::App* command, ConfigInput* input) {
  command->add_option("-c,--config", input->path, "Configuration file; - reads standard input")
      ->type_name("FILE");
  command
      ->add_option("--set", input->sets,
                   "Set one value over the file's, e.g. --set receivers.udp.address=127.0.0.1:3000")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->footer(
      "Every option of a configuration is also a flag (--log.level=debug) and a variable "
      "(MOBULA_LOG_LEVEL=debug): flags win over variables, and both over the file.");
}

bool ReadsConfig(const std::vector<std::string>& words) {
  if (words.empty()) return false;
  const std::string& command = words.front();
  return command == "run" || command == "check" || command == "replay" || command == "spool" ||
         (command == "config" && words.size() > 1 && words[1] == "print");
}

// Takes the flags that are options of a configuration out of `words`, with their values. Other commands keep them:
// they are mistakes there.
std::vector<std::string> TakeOptionFlags(std::vector<std::string>* words) {
  if (!ReadsConfig(*words)) return {};
  std::vector<std::string> flags;
  std::vector<std::string> rest;
  for (size_t i = 0; i < words->size(); ++i) {
    const std::string& word = (*words)[i];
    if (word == "--") {
      rest.insert(rest.end(), words->begin() + static_cast<std::ptrdiff_t>(i), words->end());
      break;
    }
    // Alone it is a flag of `run`, which tells of it.
    const bool flag = mobula::IsOptionFlag(word) && word != "--takeover";
    std::vector<std::string>* const to = flag ? &flags : &rest;
    to->push_back(word);
    if (to == &flags && word.find('=') == word.npos && i + 1 < words->size()) {
      flags.push_back((*words)[++i]);
    }
  }
  *words = std::move(rest);
  return flags;
}

// Whether `word` is a command of `group`, or a flag; says what is meant otherwise.
bool KnowsCommand(const CLI::App& group, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : group.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  if (word.rfind('-', 0) == 0 || std::find(names.begin(), names.end(), word) != names.end()) {
    return true;
  }
  const std::string told =
      fmt::format("{} has no command \"{}\"{}: expected {}", group.get_name(), mobula::Shown(word),
                  mobula::DidYouMean(word, names),
                  mobula::JoinWords(std::vector<std::string_view>(names.begin(), names.end())));
  std::fprintf(stderr, "%s\n", told.c_str());
  return false;
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

// `given` answers what the command line says of the configuration.
CLI::App* AddSpoolCommands(CLI::App* app, ConfigInput* input,
                           const std::function<ConfigInput()>& given, int* status) {
  struct Said {
    std::string path;
    mobula::SpoolReplayOptions replay;
    mobula::OutputForm form = mobula::OutputForm::kAuto;
  };
  const auto said = std::make_shared<Said>();
  const auto add = [&](CLI::App* group, const char* name, const char* help) {
    CLI::App* const command = group->add_subcommand(name, help);
    command
        ->add_option("-c,--config", input->path,
                     "Configuration file that says where the spool is; - reads standard input")
        ->type_name("FILE");
    CLI::Option* const json = command->add_flag_callback(
        "--json", [said] { said->form = mobula::OutputForm::kJson; },
        "The result as JSON, which it is anyway when it is piped");
    command
        ->add_flag_callback(
            "--table", [said] { said->form = mobula::OutputForm::kTable; },
            "The result as text for people, also when it is piped")
        ->excludes(json);
    return command;
  };
  // Runs `command` at the path that was said, or the configuration's.
  const auto at = [said, given, status](const std::function<int(const std::string&)>& command) {
    const auto path = mobula::SpoolPath(said->path, given());
    *status = path.ok() ? command(*path) : Finish(path.status());
  };
  constexpr const char* kPath =
      "The spool's directory, one instance's, or a file; without it: buffer.spool.path";

  CLI::App* const spool = app->add_subcommand("spool", "Look after documents that wait on disk");
  spool->require_subcommand(1);
  CLI::App* const ls = add(spool, "ls", "What waits, by backend, instance and state");
  ls->add_option("path", said->path, kPath)->type_name("PATH");
  ls->footer(
      "ready: an agent sends it. foreign: set aside, since its backend is not configured or is "
      "another now. damaged: set aside, since parts of it cannot be read.");
  ls->callback([said, at] {
    at([&](const std::string& path) { return mobula::SpoolListCommand(path, said->form); });
  });

  CLI::App* const verify =
      add(spool, "verify", "Read everything and say what is damaged, and where");
  verify->add_option("path", said->path, kPath)->type_name("PATH");
  verify->footer("Exit status: 0 nothing is damaged, 1 something is or cannot be read.");
  verify->callback([said, at] {
    at([&](const std::string& path) { return mobula::SpoolVerifyCommand(path, said->form); });
  });

  CLI::App* const replay =
      add(spool, "replay", "Send the documents that are left as datagrams to an agent");
  replay->add_option("paths", said->replay.paths, kPath)->type_name("PATH");
  replay->add_option("--to", said->replay.to, "Where to")
      ->type_name("HOST:PORT|unix:PATH")
      ->required();
  replay->add_option("--rate", said->replay.rate, "Datagrams per second; 0: as fast as possible")
      ->type_name("N")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  replay->add_option("--backend", said->replay.backend, "Only what was spooled for this one")
      ->type_name("NAME");
  CLI::Option* const set_aside = replay->add_flag("--set-aside", said->replay.set_aside,
                                                  "Only files set aside as foreign or damaged");
  replay
      ->add_flag("--in-use", said->replay.in_use,
                 "Also what a running agent is about to send itself: it arrives twice")
      ->excludes(set_aside);
  replay->footer(
      "The files stay as they are. Datagrams have no receipt: to deliver through a backend, with a "
      "ledger, use: mobula replay -c FILE --backend NAME SPOOLFILE...");
  replay->callback([said, at, status] {
    const auto run = [&](std::vector<std::string> paths) {
      said->replay.paths = std::move(paths);
      return mobula::SpoolReplayCommand(said->replay, said->form);
    };
    if (said->replay.paths.empty()) {
      at([&](const std::string& path) { return run({path}); });
    } else {
      *status = run(said->replay.paths);
    }
  });
  return spool;
}

int Mobula(std::vector<std::string> words) {
  CLI::App app(
      "Mobula takes AWS X-Ray trace segments over UDP and delivers them: to X-Ray, to files, with "
      "every loss "
      "counted.",
      "mobula");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("mobula {}", mobula::kVersion));
  app.footer("Configuration: docs/configuration.md. Exit status: 0 fine, 1 failed, 2 wrong usage.");

  const auto flag_sets = mobula::SetsFromFlags(TakeOptionFlags(&words));
  if (!flag_sets.ok()) {
    std::fprintf(stderr, "%s\n", std::string(flag_sets.status().message()).c_str());
    return 2;
  }
  ConfigInput input;
  // What the command line said of the configuration; CLI11 gives `input` its own values only while it parses.
  const auto given = [&input, &flag_sets] {
    ConfigInput all = input;
    all.sets.insert(all.sets.end(), flag_sets->begin(), flag_sets->end());
    return all;
  };
  int status = 0;
  CLI::App* const run = app.add_subcommand("run", "Receive and deliver until SIGTERM or Ctrl-C");
  AddConfigOptions(run, &input);
  run->add_flag_callback(
      "--takeover", [&input] { input.sets.push_back("takeover=true"); },
      "Take the port over from the agent that has it, without losing a datagram, and have that one "
      "end");
  run->callback([&] { status = mobula::RunAgent(given()); });

  CLI::App* const check = app.add_subcommand(
      "check", "Read a configuration and say what it means, or what is wrong with it");
  AddConfigOptions(check, &input);
  bool live = false;
  mobula::OutputForm live_output = mobula::OutputForm::kAuto;
  CLI::Option* const live_flag = check->add_flag(
      "--live", live, "Also try region, credentials, roles, endpoints and permissions");
  CLI::Option* const live_json =
      check
          ->add_flag_callback(
              "--json", [&] { live_output = mobula::OutputForm::kJson; },
              "The result of --live as JSON, which it is anyway when it is piped")
          ->needs(live_flag);
  check
      ->add_flag_callback(
          "--table", [&] { live_output = mobula::OutputForm::kTable; },
          "The result of --live as a table, also when it is piped")
      ->needs(live_flag)
      ->excludes(live_json);
  check->callback([&] {
    status = live ? CheckLive(given(), live_output) : Finish(mobula::CheckConfig(given()));
  });

  mobula::SendOptions send_options;
  bool send_json = false;
  CLI::App* const send =
      app.add_subcommand("send", "Play documents or captured datagrams to an address over UDP");
  send->add_option("inputs", send_options.inputs,
                   "Files, folders, or - : .bin .packet (datagrams), .json, .jsonl, .mobula, "
                   ".spool; also .gz, .zst")
      ->type_name("FILE")
      ->required();
  send->add_option("--to", send_options.to, "Where to")
      ->type_name("HOST:PORT|unix:PATH")
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
                                 send_json ? mobula::OutputForm::kJson : mobula::OutputForm::kAuto);
  });

  mobula::ReplayOptions replay_options;
  CLI::App* const replay = app.add_subcommand(
      "replay", "Deliver documents from files through a backend of a configuration");
  AddConfigOptions(replay, &input);
  replay->add_option("--backend", replay_options.backend, "Which; not needed when there is one")
      ->type_name("NAME");
  replay->add_option("inputs", replay_options.inputs, "Files, folders, or - , as for send")
      ->type_name("FILE")
      ->required();
  replay->callback([&] {
    replay_options.config = given();
    status = mobula::ReplayCommand(replay_options);
  });

  CLI::App* const config = app.add_subcommand("config", "Show or convert a configuration");
  config->require_subcommand(1);
  CLI::App* const print =
      config->add_subcommand("print", "The configuration in force, and where each value came from");
  AddConfigOptions(print, &input);
  bool print_json = false;
  print->add_flag("--json", print_json, "A list of values, for machines");
  print->callback([&] {
    status = Finish(mobula::PrintConfigCommand(
        given(), print_json ? mobula::PrintFormat::kJson : mobula::PrintFormat::kYaml));
  });
  std::string daemon_file;
  CLI::App* const migrate = config->add_subcommand(
      "migrate", "A configuration that means the same as a file of the X-Ray daemon");
  migrate->add_option("file", daemon_file, "The daemon's cfg.yaml")->type_name("FILE")->required();
  migrate->callback([&] { status = Finish(mobula::MigrateCommand(daemon_file)); });

  CLI::App* const spool = AddSpoolCommands(&app, &input, given, &status);

  mobula::HealthOptions health_options;
  CLI::App* const health = app.add_subcommand(
      "health", "Ask a running agent how it is; a probe for images without a shell");
  health
      ->add_option("--address", health_options.address,
                   "Its admin address; without it: MOBULA_ADMIN_ADDRESS, then 127.0.0.1:2010")
      ->type_name("HOST:PORT");
  health->add_flag("--tls", health_options.tls,
                   "Ask over TLS; so it does when MOBULA_ADMIN_TLS_CERT is set, or with --ca");
  health
      ->add_option(
          "--ca", health_options.ca,
          "Authorities to trust; without it any certificate on loopback, else the system's")
      ->type_name("FILE");
  health->add_flag("--ready", health_options.ready, "Whether it is ready, not only alive");
  health->callback([&] { status = mobula::HealthCommand(health_options); });

  CLI::App* const version = app.add_subcommand("version", "Print the version");
  version->callback([] { std::printf("mobula %s\n", std::string(mobula::kVersion).c_str()); });

  if (!words.empty() && !KnowsCommand(app, words[0])) return 2;
  for (const CLI::App* group : {config, spool}) {
    if (words.size() > 1 && words[0] == group->get_name() && !KnowsCommand(*group, words[1])) {
      return 2;
    }
  }
  try {
    // CLI11 takes them from the back.
    std::reverse(words.begin(), words.end());
    app.parse(std::move(words));
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mobula: %s\n", e.what());
    return 1;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  FillStandardDescriptors();
  const std::vector<std::string> words(argv, argv + argc);
  const std::vector<std::string> args(words.begin() + (argc > 0 ? 1 : 0), words.end());
  const int status =
      mobula::IsDaemonCommandLine(words) ? mobula::DaemonCommand(args) : Mobula(args);
  // A full disk, or a closed output: the answer was not given.
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fprintf(stderr, "cannot write to standard output%s%s\n", errno != 0 ? ": " : "",
                 errno != 0 ? std::strerror(errno) : "");
    return 1;
  }
  return status;
}
