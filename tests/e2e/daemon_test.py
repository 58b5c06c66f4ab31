"""The program in the X-Ray daemon's place: its name, flags, file, log lines and exit codes."""
import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import threading
import time

import pytest
from fake_xray import FakeXray, Key
from mobula import BINARY, HEADER, KEY, PATIENCE, REGION, Daemon, clean_environment, free_port, same_documents, segment, wait_for

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) \[(Debug|Info|Warn|Error)\] .")


@pytest.fixture(name="xray")
def fixture_xray():
    with FakeXray(keys=[Key(*KEY)], region=REGION) as fake:
        yield fake
        assert not fake.problems, fake.problems


@pytest.fixture(name="link")
def fixture_link(tmp_path):
    """The program under the daemon's name."""
    path = tmp_path / "bin" / "xray"
    path.parent.mkdir()
    path.symlink_to(os.path.abspath(BINARY))
    return str(path)


def ran(program, *args, folder, env=None):
    return subprocess.run([program, *args], cwd=folder, env=clean_environment(**(env or {})), capture_output=True, text=True, timeout=20 * PATIENCE,
                          stdin=subprocess.DEVNULL, check=False)


# --- the command line ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("args", [["-v"], ["--v"], ["-version"], ["--version"], ["-n", "x", "-v"], ["-v=true"]])
def test_version(tmp_path, link, args):
    (tmp_path / "cfg.yaml").write_text("Version: 99\n")  # is not even looked at
    done = ran(link, *args, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"AWS X-Ray daemon version: \S+\n", done.stdout)


@pytest.mark.parametrize("arg", ["-h", "--h", "-help", "--help"])
def test_help(tmp_path, link, arg):
    done = ran(link, arg, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: X-Ray [options]\n\t-a\t--resource-arn\t")
    assert len(done.stdout.splitlines()) == 15


@pytest.mark.parametrize("args,says", [
    (["--bogus"], "flag provided but not defined: -bogus"),
    (["-e", "http://127.0.0.1:1"], "flag provided but not defined: -e"),
    (["-m", "lots"], 'invalid value "lots" for flag -m: parse error'),
    (["-m="], 'invalid value "" for flag -m: parse error'),
    (["-o=maybe"], 'invalid boolean value "maybe" for -o: parse error'),
    (["-n"], "flag needs an argument: -n"),
    (["---n"], "bad flag syntax: ---n"),
])
def test_wrong_command_lines(tmp_path, link, args, says):
    done = ran(link, *args, folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, says + "\n")
    assert done.stdout.startswith("Usage: X-Ray [options]\n")


def test_its_own_name_with_a_dash_first_is_the_daemon_too(tmp_path, xray):
    assert ran(BINARY, "-v", folder=tmp_path).stdout.startswith("AWS X-Ray daemon version: ")
    for arg in ("--help", "-h"):
        assert "replay" in ran(BINARY, arg, folder=tmp_path).stdout
    assert ran(BINARY, "--version", folder=tmp_path).stdout.startswith("mobula ")
    with Daemon(tmp_path, BINARY, xray, "-l", "debug") as d:
        d.delivers(xray)
        assert d.stop() == 0


@pytest.mark.parametrize("flags", [["-n", "eu-west-1"], ["--n", "eu-west-1"], ["-n=eu-west-1"], ["--region=eu-west-1", "extra", "-n", "b", "--bogus"],
                                   ["-n", "us-east-1", "-region", "eu-west-1"]])
def test_flags_win_over_the_file_and_end_at_an_operand(tmp_path, link, flags):
    with Daemon(tmp_path, link, None, *flags) as d:
        assert "Using region: eu-west-1\n" in d.log
        assert d.stop() == 0


def test_region_comes_from_the_environment_last(tmp_path, link):
    for change, flags, want in (({}, [], REGION), ({"Region": None}, [], "eu-west-3"), ({}, ["-n", ""], "eu-west-3")):
        with Daemon(tmp_path, link, None, *flags, change=change, env={"AWS_REGION": "eu-west-3"}) as d:
            assert f"Using region: {want}\n" in d.log
            d.stop()


def test_no_region(tmp_path, link):
    with Daemon(tmp_path, link, None, change={"Region": None}, ready=False) as d:
        assert d.status() == 1
        assert "[Error] " in d.log and "Cannot fetch region" in d.log


def test_a_flag_wins_over_a_name_in_the_environment_and_that_over_the_file(tmp_path, link):
    for flags, want in ((["-n", "eu-west-1"], "eu-west-1"), ([], "ap-south-1")):
        with Daemon(tmp_path, link, None, *flags, env={"MOBULA_BACKENDS_XRAY_REGION": "ap-south-1"}) as d:
            assert f"Using region: {want}\n" in d.log
            d.stop()


def test_no_file_is_needed(tmp_path, link, xray):
    if os.path.exists("/etc/amazon/xray/cfg.yaml"):
        pytest.skip("this machine has a default file")
    port = free_port()
    at = f"127.0.0.1:{port}"
    with Daemon(tmp_path, link, xray, "-o", "-n", REGION, "-b", at, "-t", at, file=False, env={"AWS_ENDPOINT_URL_XRAY": xray.url}) as d:
        d.port = port
        d.delivers(xray)
        assert d.stop() == 0


@pytest.mark.parametrize("address,host", [("localhost:{}", "127.0.0.1"), (":{}", "127.0.0.1"), ("0.0.0.0:{}", "127.0.0.1"), ("[::1]:{}", "::1")])
def test_address_spellings(tmp_path, link, xray, address, host):
    port = free_port()
    with Daemon(tmp_path, link, xray, "-b", address.format(port), "-t", address.format(port)) as d:
        d.port = port
        d.delivers(xray, host=host)
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=10)) as c:
            c.request("GET", "/")
            assert c.getresponse().status == 403
        assert d.stop() == 0


@pytest.mark.parametrize("args,says", [
    (["rnu"], 'mobula has no command "rnu" (did you mean "run"?): expected run, check, '),
    (["config", "prnt"], 'config has no command "prnt" (did you mean "print"?): expected print or migrate'),
    (["run", "--log-format=json"], "--log-format"),
])
def test_an_unknown_command_is_named(tmp_path, args, says):
    done = ran(BINARY, *args, folder=tmp_path)
    assert done.returncode == 2 and says in done.stderr and done.stdout == "", done


def test_check_says_what_it_found(tmp_path):
    env = {"MOBULA_BACKENDS_A_TYPE": "xray", "MOBULA_BACKENDS_A_REGION": "eu-west-1", "MOBULA_RECEIVERS_UNIX_PATH": "unix:/run/x.sock"}
    done = ran(BINARY, "check", folder=tmp_path, env=env)
    assert done.returncode == 0 and done.stderr == "", done
    assert done.stdout.startswith("flags and variables: ok\n")
    for line in ("receives on   udp 127.0.0.1:2000", "receives on   unix /run/x.sock", "sampling port tcp 127.0.0.1:2000, asks as backend a",
                 "admin         off", "backend       a (xray, eu-west-1)"):
        assert f"  {line}\n" in done.stdout


def test_an_output_that_takes_nothing_is_told(tmp_path):
    with open("/dev/full", "wb") as full:
        for args in (["config", "print"], ["check"], ["version"]):
            done = subprocess.run([BINARY, *args], cwd=tmp_path, env=clean_environment(MOBULA_BACKENDS_A_TYPE="null"), stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=20 * PATIENCE, stdin=subprocess.DEVNULL, check=False)
            assert (done.returncode, done.stderr) == (1, "cannot write to standard output: No space left on device\n")


# --- slow metadata ------------------------------------------------------------------------------------------

class SlowMetadata(socketserver.ThreadingTCPServer):
    """The metadata of an instance, each answer of which takes `delay` seconds."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, delay):
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                outer.asked += 1
                time.sleep(delay)
                text = {"/latest/api/token": b"token", "/latest/dynamic/instance-identity/document": b'{"region": "eu-west-3"}'}.get(self.path)
                with contextlib.suppress(OSError):
                    self.send_response(200 if text else 404)
                    self.send_header("Content-Length", str(len(text or b"")))
                    self.end_headers()
                    self.wfile.write(text or b"")

            do_GET = do_PUT = answer

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.environment = {"AWS_EC2_METADATA_DISABLED": None, "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:%d" % self.server_address[1]}


def test_slow_metadata_is_waited_for(tmp_path, link):
    with SlowMetadata(1.5) as metadata, Daemon(tmp_path, link, None, change={"Region": None, "LocalMode": False}, env=metadata.environment) as d:
        assert "Using region: eu-west-3\n" in d.log
        assert d.stop() == 0
        metadata.shutdown()


def test_a_signal_ends_a_start_that_waits(tmp_path, link):
    with SlowMetadata(30) as metadata, \
            Daemon(tmp_path, link, None, change={"Region": None, "LocalMode": False}, env=metadata.environment, ready=False) as d:
        wait_for(lambda: metadata.asked, lambda: d.log)
        begin = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - begin < 5 * PATIENCE
        assert "Got shutdown signal: terminated" in d.log and "Stopped before the start was over" in d.log
        metadata.shutdown()


# --- memory and ports ---------------------------------------------------------------------------------------

def test_memory_has_a_least(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray, "-m", "2", ready=False) as d:
        assert d.status() == 1
        assert "Not enough Buffers Memory Allocated. Min Buffers Memory required: 3 MB." in d.err
    with Daemon(tmp_path, link, xray, "-m", "3") as d:
        assert "Using buffer memory limit of 3 MB\n" in d.log
        d.delivers(xray, 200)
        assert d.stop() == 0


def test_a_taken_udp_port_is_the_end(tmp_path, link):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        with Daemon(tmp_path, link, None, "-b", "127.0.0.1:%d" % s.getsockname()[1], ready=False) as d:
            assert d.status() == 1
            assert "in use" in d.log


def test_a_successor_takes_both_ports_over(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray) as old:
        old.delivers(xray)
        at = f"127.0.0.1:{old.port}"
        with Daemon(tmp_path, link, xray, "--takeover", change={"Socket": {"UDPAddress": at, "TCPAddress": at}}) as new:
            assert old.status() == 0
            assert "Got shutdown signal: terminated" in old.log
            new.port = old.port
            new.delivers(xray)
            with socket.create_connection(("127.0.0.1", old.port), timeout=10):
                pass
            assert "failed to listen" not in new.log
            assert new.stop() == 0


def test_a_taken_admin_port_is_only_told(tmp_path, link, xray):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with Daemon(tmp_path, link, xray, env={"MOBULA_ADMIN_ADDRESS": "127.0.0.1:%d" % s.getsockname()[1]}) as d:
            assert "[Warn] No health and metrics pages: " in d.log
            d.delivers(xray)
            assert d.stop() == 0


@pytest.mark.parametrize("section", [{"UDPAddress": "127.0.0.1:99999"}, {"TCPAddress": "127.0.0.1:99999"},
                                     {"UDPAddress": "no-such-host.invalid:2000"}, {"TCPAddress": "no-such-host.invalid:2000"}])
def test_an_address_that_cannot_be_one_is_the_end(tmp_path, link, section):
    at = f"127.0.0.1:{free_port()}"
    with Daemon(tmp_path, link, None, change={"Socket": {"UDPAddress": at, "TCPAddress": at, **section}}, ready=False) as d:
        assert d.status() == 1
        assert next(iter(section.values())).split(":")[0] in d.log


# --- the file -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    'Version: 1\nRegion: us-west-2\nLocalMode: true\nEndpoint: "{url}"\nSocket:\n  UDPAddress: "127.0.0.1:{port}"\n',
    'Version: 2\nRegion: us-west-2\nLocalMode: yes\nEndpoint: "{url}"\nTotalBufferSizeMB: 24\nConcurrency: 2\nResourceARN: "arn:aws:ec2:us-west-2:123456789012:instance/i-1"\n'
    'Socket:\n  UDPAddress: "127.0.0.1:{port}"\n  TCPAddress: "127.0.0.1:{port}"\nLogging:\n  LogRotation: off\n  LogLevel: debug\n'
    'RoleARN: ""\nNoVerifySSL: no\nProxyAddress:\n',
])
def test_files_of_both_versions(tmp_path, link, xray, text):
    flags = [] if "TCPAddress" in text else ["-t", f"127.0.0.1:{free_port()}"]
    with Daemon(tmp_path, link, xray, *flags, text=text) as d:
        d.delivers(xray)
        assert d.stop() == 0


@pytest.mark.parametrize("text,says", [
    ("Region: us-east-1\n", "Config Version is missing"),
    ("Version: 3\n", "Config Version Setting is not correct"),
    ("Version: 2\nRegoin: x\n", "Regoin flag is invalid"),
    ("Version: 2\nSocket:\n  UDP: x\n", "Socket.UDP flag is invalid"),
    ("Version: 2\nSocket:\n", "Socket flag is invalid"),
    ("Version: 2\nLogging:\n  LogFormat: x\n", "Logging.LogFormat flag is not supported any more"),
    ("Version: 2\nMemoryLimit: 100\n", "MemoryLimit flag is not supported. Use X-Ray Daemon Config Migration Script"),
    ("Version: 2\nConcurrency: many\n", "Error occur when using config flag"),
    ("Version: 2\nConcurrency: -1\n", "Error occur when using config flag"),
    ("Version: 2\nLogging:\n  LogLevel: loud\n", "Error occur when using config flag"),
    ("Version: 2\n\tRegion: x\n", "Error occur when using config flag"),
    ("Version: 2\nProxyAddress: 'not a url'\n", "bad.yaml:2:15: ProxyAddress: expected a URL"),
    ("receivers: {}\nbackends: {out: {type: 'null'}}\n", "run it with `mobula run -c bad.yaml`"),
])
def test_refused_files(tmp_path, link, text, says):
    (tmp_path / "bad.yaml").write_text(text)
    log = tmp_path / "new" / "xray.log"
    done = ran(link, "-f", str(log), "-c", "bad.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    for told in (done.stderr, log.read_text()):
        assert all(LINE.match(line) for line in told.splitlines()) and "[Error] " in told
        assert says in told


def test_a_missing_file_is_named(tmp_path, link):
    done = ran(link, "-c", "/nonexistent/xray.yaml", folder=tmp_path)
    assert done.returncode == 1 and "/nonexistent/xray.yaml" in done.stderr


def test_the_file_of_the_working_directory(tmp_path, link, xray):
    if os.path.exists("/etc/amazon/xray/cfg.yaml"):
        pytest.skip("this machine has a default file")
    port = free_port()
    at = f"127.0.0.1:{port}"
    settings = {"Version": 2, "Whatever": 1, "Region": REGION, "LocalMode": True, "Endpoint": xray.url,
                "Socket": {"UDPAddress": at, "TCPAddress": at}}
    (tmp_path / "cfg.yaml").write_text(json.dumps(settings))
    with Daemon(tmp_path, link, xray, file=False) as d:
        d.port = port
        d.delivers(xray)
        assert d.stop() == 0
    # With another one named it is not even opened.
    (tmp_path / "cfg.yaml").write_text("Version: 99\n")
    with Daemon(tmp_path, link, xray) as d:
        assert d.stop() == 0


def test_concurrency_is_a_cap(tmp_path, link, xray):
    xray.latency = 0.2
    for most in (1, 3):
        xray.busiest = 0
        with Daemon(tmp_path, link, xray, change={"Concurrency": most}) as d:
            d.delivers(xray, 50 * most * 3)
            assert 1 <= xray.busiest <= most
            assert d.stop() == 0


# --- the log ------------------------------------------------------------------------------------------------

def test_the_log_has_the_phrases_people_look_for(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray) as d:
        d.delivers(xray, 7)
        wait_for(lambda: re.search(r"\[Info\] Successfully sent batch of \d+ segments \(\d+\.\d{3} seconds\)\n", d.out), "the phrase", 20)
        xray.fail(status=400, code="InvalidRequestException", message="telling message")
        d.send(segment())
        wait_for(lambda: re.search(r"\[Error\] Sending segment batch failed with: .*telling message", d.out), "the other phrase")
        xray.heal()
        assert d.stop() == 0
        phrases = ["Initializing AWS X-Ray daemon ", "Using buffer memory limit of ", f"Using region: {REGION}\n",
                   f"HTTP Proxy server using X-Ray Endpoint : {xray.url}", f"Starting proxy http server on 127.0.0.1:{d.port}\n",
                   "Got shutdown signal: terminated\n"]
        places = [d.out.find(phrase) for phrase in phrases]
        assert -1 not in places and places == sorted(places), list(zip(phrases, places))
        assert d.err == ""
        assert all(LINE.match(line) for line in d.out.splitlines())


@pytest.mark.parametrize("flags,change,has,lacks", [
    (["-l", "error"], {}, [], ["Info", "Warn", "Debug"]),
    (["-l", "warn"], {"Logging": {"LogLevel": "debug"}}, ["Warn"], ["Info", "Debug"]),
    ([], {"Logging": {"LogLevel": "warn"}}, ["Warn"], ["Info", "Debug"]),
    (["-l", "info"], {"Logging": {"LogLevel": "error"}}, ["Info", "Warn"], ["Debug"]),
    (["-l", "prod"], {}, ["Info", "Warn"], ["Debug"]),
    (["-l", "loud"], {"Logging": {"LogLevel": "warn"}}, ["Warn"], ["Info"]),
])
def test_levels(tmp_path, link, xray, flags, change, has, lacks):
    with Daemon(tmp_path, link, xray, *flags, change=change, ready=False) as d:
        # Nothing of its start need be logged: the port says that it is there.
        def listens():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", d.port), 1).close()
                return True
        wait_for(listens, lambda: d.log)
        d.send(segment(), header=b"bad header\n")
        d.delivers(xray)
        if "Warn" in has:
            wait_for(lambda: "Invalid header: bad header" in d.log, "the warning")
        assert d.stop() == 0
        assert all(f"[{level}] " in d.log for level in has), d.log
        assert not any(f"[{level}] " in d.log for level in lacks), d.log


def test_a_log_file_is_appended_to_and_opened_again(tmp_path, link, xray):
    log = tmp_path / "a" / "b" / "xray.log"
    for round_number in (1, 2):
        with Daemon(tmp_path, link, xray, "-f", str(log), ready=False) as d:
            wait_for(lambda n=round_number: log.exists() and log.read_text().count("Starting proxy http server") == n, "the start")
            if round_number == 2:
                os.rename(log, str(log) + ".moved")
                d.process.send_signal(signal.SIGHUP)
                wait_for(lambda: log.exists() and "(SIGHUP)" in log.read_text(), "a new file")
            d.delivers(xray)
            assert d.stop() == 0
            assert d.log == ""
    assert "Got shutdown signal" in log.read_text() and "Initializing" not in log.read_text()


def test_a_log_file_that_cannot_be_opened_does_not_stop_it(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray, "-f", "/dev/null/xray.log") as d:
        assert d.out == "" and "[Error] cannot open the log file /dev/null/xray.log" in d.err
        assert d.err.count("[Error]") == 1
        d.delivers(xray)
        assert d.stop() == 0


def test_foreign_bytes_do_not_get_into_the_log(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray) as d:
        d.send(b"x", header=b"\x1b[2J\rforged\x00 [Error] fake\n")
        d.send(b"x", header=b"A" * 60000 + b"\n")
        d.delivers(xray)
        assert d.stop() == 0
        assert not re.search(r"[\x00\x1b\r]", d.log)
        assert max(len(line) for line in d.log.splitlines()) < 4096
        assert all(LINE.match(line) for line in d.log.splitlines())


# --- the end ------------------------------------------------------------------------------------------------

def test_signals_during_the_drain_are_ignored(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray) as d:
        xray.fail(status=503)
        d.send(segment())
        wait_for(lambda: xray.request_count, "the first call")
        d.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Got shutdown signal: terminated" in d.log, "the drain")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            d.process.send_signal(number)
            time.sleep(0.2)
            assert d.process.poll() is None
        xray.heal()
        assert d.process.wait(30 * PATIENCE) == 0
        assert len(xray.documents) == 1


# --- migration ----------------------------------------------------------------------------------------------

def test_a_migrated_file_means_the_same(tmp_path, link, xray):
    with Daemon(tmp_path, link, xray, change={"TotalBufferSizeMB": 24, "Concurrency": 2}) as d:
        d.delivers(xray)
        assert d.stop() == 0
    done = ran(BINARY, "config", "migrate", d.config, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "memory: 24MiB  # TotalBufferSizeMB" in done.stdout
    migrated = tmp_path / "mobula.yaml"
    migrated.write_text(done.stdout)
    with open(tmp_path / "run.out", "wb") as out:
        process = subprocess.Popen([BINARY, "run", "-c", str(migrated)], cwd=tmp_path, stdout=out, stderr=out, env=clean_environment(),
                                   stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: "Starting proxy http server" in (tmp_path / "run.out").read_text(), lambda: (tmp_path / "run.out").read_text())
        d.delivers(xray)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30 * PATIENCE) == 0
        assert all(LINE.match(line) for line in (tmp_path / "run.out").read_text().splitlines())
    finally:
        process.kill()
        process.wait()


def test_migrate_refuses_what_the_daemon_refuses(tmp_path):
    (tmp_path / "bad.yaml").write_text("Version: 2\nBogus: 1\n")
    done = ran(BINARY, "config", "migrate", "bad.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Bogus flag is invalid" in done.stderr
