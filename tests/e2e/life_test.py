"""Start, signals and end, as an operator meets them."""
import glob
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from mobula import BINARY, HEADER, ROOT, Mobula, check_balance, free_port, read_lines, same_documents, segment, wait_for

OUT = {"out": {"type": "file", "path": "out.jsonl"}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_zero(tmp_path, number):
    with Mobula(tmp_path, OUT) as m:
        documents = [segment() for _ in range(30)]
        m.send(*documents)
        ledger = m.stop(number)
        assert ledger["ingest"]["accepted"] == 30 and ledger["lanes"]["out"]["delivered"] == 30
        same_documents(read_lines(tmp_path / "out.jsonl"), documents)


def test_what_waits_in_the_kernel_at_the_signal_is_delivered(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        documents = [segment() for _ in range(200)]
        m.process.send_signal(signal.SIGSTOP)
        m.send(*documents)
        m.process.send_signal(signal.SIGTERM)
        m.process.send_signal(signal.SIGCONT)
        assert m.process.wait(30) == 0
        same_documents(read_lines(tmp_path / "out.jsonl"), documents)


def test_a_second_instance_on_the_same_port_is_refused(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        second = subprocess.run([BINARY, "run", "-c", m.config_path, "--set", "admin.address=off"], cwd=tmp_path, timeout=30,
                                capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert str(m.port) in second.stderr and "in use" in second.stderr.lower(), second.stderr
        m.send(segment())
        m.settled()
        m.stop()


def test_a_hangup_opens_the_file_again(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        first, second = segment(name="first"), segment(name="second")
        m.send(first)
        m.settled()
        os.rename(tmp_path / "out.jsonl", tmp_path / "out.jsonl.old")
        m.process.send_signal(signal.SIGHUP)
        wait_for((tmp_path / "out.jsonl").exists, "a new file")
        m.send(second)
        m.settled()
        m.stop()
        assert read_lines(tmp_path / "out.jsonl.old") == [first]
        assert read_lines(tmp_path / "out.jsonl") == [second]


def test_a_lone_segment_arrives_within_two_seconds(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        begin = time.monotonic()
        m.send(segment())
        wait_for(lambda: read_lines(tmp_path / "out.jsonl"), "the segment", 2)
        print(f"{time.monotonic() - begin:.2f} s")
        m.stop()


@pytest.mark.parametrize("address,family,target", [
    ("localhost:{}", socket.AF_INET, "127.0.0.1"),
    ("[::1]:{}", socket.AF_INET6, "::1"),
    (":{}", socket.AF_INET, "127.0.0.1"),
    (":{}", socket.AF_INET6, "::1"),
    ("0.0.0.0:{}", socket.AF_INET, "127.0.0.1"),
])
def test_address_spellings(tmp_path, address, family, target):
    port = free_port()
    with Mobula(tmp_path, OUT, udp={"address": address.format(port)}) as m:
        document = segment()
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.sendto(HEADER + document, (target, port))
        m.settled(1)
        m.stop()
        assert read_lines(tmp_path / "out.jsonl") == [document]


def test_port_zero_takes_a_free_port_and_says_which(tmp_path):
    with Mobula(tmp_path, OUT, udp={"address": "127.0.0.1:0"}) as m:
        (listening,) = m.events("listening")
        host, port = listening["message"].split()[-1].rsplit(":", 1)
        document = segment()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(HEADER + document, (host, int(port)))
        m.settled(1)
        m.stop()
        assert read_lines(tmp_path / "out.jsonl") == [document]


def test_routes_send_each_document_where_it_belongs(tmp_path):
    backends = {name: {"type": "file", "path": f"{name}.jsonl"} for name in ("acme", "rest")}
    routes = [{"when": 'http.url ENDSWITH "/healthz"', "to": []},
              {"when": 'annotation.tenant = "acme" OR service("billing")', "to": ["acme", "rest"]},
              {"to": ["rest"]}]
    with Mobula(tmp_path, backends, routes=routes) as m:
        health = segment(http={"request": {"url": "http://a/healthz"}}, annotations={"tenant": "acme"})
        acme, billing = segment(annotations={"tenant": "acme"}), segment(name="billing")
        other, otlp = segment(annotations={"tenant": "acme2"}), b"T1SCgIIAQ=="
        m.send(health, acme, billing, other, otlp)
        m.settled()
        ledger = m.stop()
        assert ledger["ingest"]["filtered"] == 1
        same_documents(read_lines(tmp_path / "acme.jsonl"), [acme, billing])
        same_documents(read_lines(tmp_path / "rest.jsonl"), [acme, billing, other, otlp])


def test_admin_pages(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        m.send(*[segment() for _ in range(3)])
        m.datagram(b"garbage")
        check_balance(m.settled())
        assert m.get("/healthz")[0] == 200
        assert m.get("/readyz")[0] == 200
        assert m.get("/nothing-here")[0] == 404
        status, text = m.get("/metrics")
        assert status == 200
        names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
        assert names and all(name.startswith(("mobula_", "process_")) for name in names), names
        assert re.search(r'^mobula_\w*rejected\w*\{[^}]*reason="missing_header"[^}]*\} 1', text, re.MULTILINE), text
        status, text = m.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        assert status == 200 and text.endswith("# EOF\n")
        m.stop()


def test_version_says_its_name():
    said = subprocess.run([BINARY, "version"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"mobula \d+\.\d+\.\d+", said), said


@pytest.mark.parametrize("config", sorted(glob.glob(os.path.join(ROOT, "config", "*.yaml"))), ids=os.path.basename)
def test_shipped_configurations_are_valid(config):
    done = subprocess.run([BINARY, "check", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shipped_configurations_exist():
    assert glob.glob(os.path.join(ROOT, "config", "local.yaml"))


def test_a_mistake_is_named_with_its_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("receivers:\n  udp:\n    enginee: auto\nbackends: { out: { type: 'null' } }\n")
    done = subprocess.run([BINARY, "check", "-c", path], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert 'bad.yaml:3:5: receivers.udp.enginee: unknown key (did you mean "engine"?)' in done.stdout + done.stderr


def test_send_plays_captures_fresh(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        captures = os.path.join(ROOT, "tests", "data", "captures")
        subprocess.run([BINARY, "send", captures, "--to", f"127.0.0.1:{m.port}", "--rate", "500", "--fresh"], check=True, timeout=60,
                       capture_output=True)
        count = len([name for name in os.listdir(captures) if name.endswith(".bin")])
        ledger = m.settled(count)
        assert ledger["ingest"]["accepted"] == count
        m.stop()
