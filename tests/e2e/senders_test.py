"""Who may send, and how much: the allow-list and the cap of each source address."""
import os
import socket
import subprocess
import threading
import time

import pytest
from mobula import BINARY, HEADER, Mobula, check_balance, read_lines, same_documents, segment, wait_for

OUT = {"out": {"type": "file", "path": "out.jsonl"}}


def sender(host, port, family=socket.AF_INET, to="127.0.0.1"):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((host, 0))
    s.connect((to, port))
    return s


def play(s, rate, seconds, **members):
    """Documents at an even rate; those that were sent."""
    sent, begin = [], time.monotonic()
    while True:
        due = (time.monotonic() - begin) * rate
        if due >= rate * seconds:
            return sent
        while len(sent) < due:
            sent.append(segment(**members))
            s.send(HEADER + sent[-1])
        time.sleep(0.002)


@pytest.mark.parametrize("engine", ["io_uring", "recvmmsg"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_mad_sender_leaves_the_others_theirs(tmp_path, engine, workers):
    rate, seconds = 300, 4
    udp = {"engine": engine, "workers": workers, "source_rate": rate}
    with Mobula(tmp_path, OUT, udp=udp, dead_letter={"path": "dead.jsonl"}) as m:
        mad_sent = []

        def go_mad():
            with sender("127.0.0.2", m.port) as s:
                mad_sent.extend(play(s, 10 * rate, seconds, name="mad"))

        thread = threading.Thread(target=go_mad)
        begin = time.monotonic()
        thread.start()
        sound = play(m.socket, rate * 0.6, seconds, name="sound")
        thread.join()
        ledger = m.settled(len(sound) + len(mad_sent))
        took = time.monotonic() - begin
        check_balance(ledger)
        got = read_lines(tmp_path / "out.jsonl")
        same_documents([d for d in got if b'"name":"sound"' in d], sound)
        mad = [d for d in got if b'"name":"mad"' in d]
        assert rate * seconds * 0.9 <= len(mad) <= rate * (took + 1) + 10 * workers, (len(mad), took)
        assert ledger["ingest"]["rejected"] == {"rate_limited": len(mad_sent) - len(mad)}
        assert m.metric("mobula_documents_rejected_total", reason="rate_limited") == len(mad_sent) - len(mad)
        told = wait_for(lambda: m.events("datagram_rejected"), "the log line")
        assert {(line["key"], line["source"]) for line in told} == {("rate_limited", "127.0.0.2")}, told
        m.stop()
        assert not os.path.exists(tmp_path / "dead.jsonl") or not read_lines(tmp_path / "dead.jsonl")


def test_nobody_is_heard_who_is_not_on_the_list(tmp_path):
    config = {"allow": ["127.0.0.0/31", "::1/128"]}
    with Mobula(tmp_path, OUT, start=False) as m:
        m.config["receivers"]["udp"] = {"address": f":{m.port}", **config}  # IPv4 and IPv6 on one socket
        m.config["receivers"]["unix"] = {"path": "in.sock"}
        m.config["dead_letter"] = {"path": "dead.jsonl"}
        m.write_config()
        m.start()
        wanted = [segment(name="v4"), segment(name="v6"), segment(name="unix")]
        m.send(wanted[0])
        with sender("::1", m.port, socket.AF_INET6, "::1") as s:
            s.send(HEADER + wanted[1])
        # Whoever may write to the file may send: there are no addresses.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(str(tmp_path / "in.sock"))
            s.send(HEADER + wanted[2])
        with sender("127.0.0.2", m.port) as s:
            for _ in range(10):
                s.send(HEADER + segment(name="unwanted"))
        ledger = m.settled(13)
        assert ledger["ingest"]["rejected"] == {"not_allowed": 10}
        same_documents(read_lines(tmp_path / "out.jsonl"), wanted)
        told = wait_for(lambda: m.events("datagram_rejected"), "the log line")
        assert told[0]["key"] == "not_allowed" and told[0]["source"] == "127.0.0.2", told
        assert "unwanted" not in m.log
        m.stop()


def test_check_tells_of_them(tmp_path):
    flags = ["--backends.out.type=null", "--receivers.udp.allow=[10.0.0.0/8]", "--receivers.udp.source_rate=500"]
    done = subprocess.run([BINARY, "check", *flags], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert "senders       of 1 network, at most 500 documents a second each\n" in done.stdout, done.stdout
