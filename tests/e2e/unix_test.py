"""The Unix datagram socket: documents over UDP's limit, flow control in place of loss, and the life of its file."""
import errno
import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from fake_xray import FakeXray, Key
from mobula import BINARY, CAPTURES, HEADER, KEY, PATIENCE, Mobula, captures, read_lines, same_documents, segment, wait_for

FILE = {"out": {"type": "file", "path": "out.jsonl"}}


def agent(folder, backends=None, start=True, unix=None, **sections):
    m = Mobula(folder, backends or FILE, start=False, **sections)
    m.config["receivers"]["unix"] = {"path": os.path.join(m.folder, "s.sock"), **(unix or {})}
    with open(m.config_path, "w", encoding="utf-8") as f:
        json.dump(m.config, f)
    if start:
        m.start()
    return m


def path_of(m):
    return m.config["receivers"]["unix"]["path"]


def connect(m):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 << 10)
    s.connect(path_of(m))
    return s


def send(m, *documents, header=HEADER):
    with connect(m) as s:
        for document in documents:
            s.send(header + document)
            m.sent += 1


def test_every_capture_arrives_unchanged(tmp_path):
    sent = captures()
    with agent(tmp_path) as m:
        with connect(m) as s:
            for datagram in sent.values():
                s.send(datagram)
                m.sent += 1
        m.settled()
        m.stop()
    same_documents(read_lines(tmp_path / "out.jsonl"), [d.split(b"\n", 1)[1] for d in sent.values()])


def test_documents_up_to_a_batch_arrive_and_larger_ones_are_counted(tmp_path):
    most = 261344 - len(HEADER)
    documents = [segment(user="x" * size) for size in (65507, 70000, 131072, 200000)]
    largest = segment(user="")
    documents.append(segment(user="x" * (most - len(largest))))
    assert len(documents[-1]) == most
    with agent(tmp_path) as m:
        send(m, *documents, documents[-1] + b" ", segment())
        ledger = m.settled()
        assert ledger["ingest"]["rejected"] == {"truncated": 1}
        assert m.stop()["lanes"]["out"]["delivered"] == len(documents) + 1
    assert read_lines(tmp_path / "out.jsonl")[:-1] == documents


def test_large_documents_reach_x_ray_as_long_as_a_call_can_hold_them(tmp_path):
    fits, grows = segment(user="x" * 200000), segment(user='"' * 70000)  # escaped twice, a quote takes four bytes
    with FakeXray(keys=[Key(*KEY)]) as xray:
        backends = {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url, "telemetry": False}}
        with agent(tmp_path, backends, dead_letter={"path": "dead.jsonl"}) as m:
            send(m, fits, grows, segment(name="small"))
            m.settled()
            ledger = m.stop()
            assert ledger["lanes"]["aws"]["dropped"] == {"too_large": 1}
        assert not xray.problems, xray.problems
        assert sorted(json.loads(d)["name"] for d in xray.documents) == ["e2e", "small"]
        assert fits.decode() in xray.documents
    dead = [json.loads(line) for line in read_lines(tmp_path / "dead.jsonl")]
    assert [d["reason"] for d in dead] == ["too_large"]


def test_a_flood_waits_and_loses_nothing(tmp_path):
    file = tmp_path / "in.jsonl"
    documents = [segment(n=n) for n in range(20000)]
    file.write_bytes(b"\n".join(documents) + b"\n")
    with agent(tmp_path) as m:
        ran = subprocess.run([BINARY, "send", str(file), "--to", "unix:" + path_of(m), "--rate", "0", "--json"], capture_output=True, check=False,
                             timeout=60 * PATIENCE)
        result = json.loads(ran.stdout)
        assert (ran.returncode, result["sent"], result["errors"]) == (0, len(documents), {}), (ran, m.log[-2000:])
        m.sent += result["sent"]
        ledger = m.settled(seconds=60)
        assert "kernel_drops" not in ledger["ingest"] or ledger["ingest"]["kernel_drops"] == 0
        m.stop()
    same_documents(read_lines(tmp_path / "out.jsonl"), documents)


def test_udp_and_unix_go_side_by_side(tmp_path):
    over_udp, over_unix = [segment() for _ in range(50)], [segment() for _ in range(50)]
    with agent(tmp_path) as m:
        m.send(*over_udp)
        send(m, *over_unix)
        m.settled()
        m.stop()
    same_documents(read_lines(tmp_path / "out.jsonl"), over_udp + over_unix)


@pytest.mark.parametrize("mode", [None, "0600", "0622"])
def test_the_file_has_its_mode_and_goes_with_the_agent(tmp_path, mode):
    with agent(tmp_path, unix={"mode": mode} if mode else {}) as m:
        made = os.stat(path_of(m))
        assert stat.S_ISSOCK(made.st_mode)
        assert stat.S_IMODE(made.st_mode) == int(mode or "0666", 8)
        m.stop()
        assert not os.path.exists(path_of(m))


def test_a_socket_left_over_is_replaced_and_senders_find_the_new_one(tmp_path):
    with agent(tmp_path) as m:
        with connect(m) as old:
            m.process.send_signal(signal.SIGKILL)
            m.process.wait()
            assert os.path.exists(path_of(m))
            m.start()
            with pytest.raises(OSError) as refused:
                old.send(HEADER + segment())
            assert refused.value.errno == errno.ECONNREFUSED
            old.connect(path_of(m))
            old.send(HEADER + segment())
            m.sent += 1
        m.settled()
        m.process.send_signal(signal.SIGTERM)
        assert m.process.wait(30 * PATIENCE) == 0


def ends_saying(m, *words):
    done = subprocess.run([BINARY, "run", "-c", m.config_path], cwd=m.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env=m.environment, timeout=20 * PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_socket_in_use_is_left_alone(tmp_path):
    with agent(tmp_path) as m:
        other = tmp_path / "other"
        other.mkdir()
        second = agent(other, start=False, unix={"path": path_of(m)})
        second.socket.close()
        ends_saying(second, "listens there", path_of(m))
        send(m, segment())
        m.settled()
        m.stop()


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    precious = tmp_path / "s.sock"
    precious.write_text("precious")
    m = agent(tmp_path, start=False)
    m.socket.close()
    ends_saying(m, "no socket")
    assert precious.read_text() == "precious"


def test_what_was_queued_at_the_end_is_delivered(tmp_path):
    documents = [segment(n=n) for n in range(8)]
    with agent(tmp_path) as m:
        send(m, segment())
        m.settled()
        m.process.send_signal(signal.SIGSTOP)
        send(m, *documents)
        m.process.send_signal(signal.SIGTERM)
        m.process.send_signal(signal.SIGCONT)
        wait_for(lambda: m.process.poll() is not None, lambda: m.log[-2000:], 30)
        assert m.process.returncode == 0
        assert m.final_ledger()["ingest"]["datagrams"] == len(documents) + 1
    assert read_lines(tmp_path / "out.jsonl")[1:] == documents


def test_send_says_when_nobody_is_there(tmp_path):
    ran = subprocess.run([BINARY, "send", CAPTURES, "--to", f"unix:{tmp_path}/none"], capture_output=True, text=True, check=False, timeout=20 * PATIENCE)
    assert ran.returncode == 1 and "cannot send to unix:" in ran.stderr, ran
