"""`mobula spool`: what waits on disk, looked at and sent from outside.

The spool is written here, after docs/wire/spool.md, so that these tests also hold the format to its description.
"""
import json
import os
import signal
import struct
import subprocess
import time

import pytest
from mobula import BINARY, PATIENCE, Mobula, read_lines, same_documents, segment, wait_for

INSTANCE = "instance-0123456789abcdef"


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def zstd_stored(data):
    """One zstd frame of `data` as it is: a single segment with raw blocks (RFC 8878)."""
    out = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data))
    blocks = [data[i : i + 100_000] for i in range(0, len(data), 100_000)]
    for i, block in enumerate(blocks):
        out += (len(block) << 3 | (i + 1 == len(blocks))).to_bytes(3, "little") + block
    return out


def spool_file(backend, *batches, identity="x", created=None, done=0):
    """A file of one frame for each batch of documents; `done` is the mark of the first."""
    now = int((created or time.time()) * 1000)
    file_id = 7
    header = struct.pack("<8sHHIQQQ24x64s", b"MOBSPOOL", 1, len(backend), 0, file_id, now,
                         fnv1a(backend.encode() + b"\0" + identity.encode()), backend.encode())
    out = header[:12] + struct.pack("<I", crc32c(header)) + header[16:]
    for number, documents in enumerate(batches):
        raw = b"".join(struct.pack("<IB", len(d), 0) for d in documents) + b"".join(documents)
        stored = zstd_stored(raw)
        begin = struct.pack("<4sIIHHQI", b"MbFr", len(stored), len(raw), len(documents), 0, now, crc32c(stored))
        mark = done if number == 0 else 0
        out += begin + struct.pack("<IQQ", crc32c(struct.pack("<Q", file_id) + begin), mark, ~mark % 2**64) + stored
    return out


@pytest.fixture(name="spool")
def fixture_spool(tmp_path):
    """A folder `spool` with one instance, and a function that puts files there."""
    folder = tmp_path / "spool" / INSTANCE
    folder.mkdir(parents=True, mode=0o700)

    def put(name, data):
        path = folder / name
        path.write_bytes(data)
        return str(path)

    return put


def run(*arguments, folder, status=0, **options):
    ran = subprocess.run([BINARY, "spool", *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         timeout=60 * PATIENCE, check=False, text=True, **options)
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    return ran


def test_ls_and_verify_of_a_sound_spool(tmp_path, spool):
    documents = [segment() for _ in range(5)]
    path = spool("1-prod.spool", spool_file("prod", documents[:3], documents[3:], created=time.time() - 7200, done=0b101))
    listed = json.loads(run("ls", tmp_path / "spool", folder=tmp_path).stdout)
    (group,) = listed["groups"]
    assert 7200 <= group.pop("oldest_s") < 7300 and 7200 <= group.pop("newest_s") < 7300
    assert group == {"backend": "prod", "instance": INSTANCE, "in_use": False, "state": "ready", "documents": 3,
                     "bytes": os.path.getsize(path), "files": [path]}
    assert listed["documents"] == 3
    table = run("ls", "--table", "spool", folder=tmp_path).stdout.splitlines()
    assert table[0].split() == ["BACKEND", "STATE", "DOCUMENTS", "SIZE", "FILES", "OLDEST", "NEWEST", "INSTANCE"]
    assert table[1].startswith("prod     ready          3  ") and " 2 h " in table[1] and len(table) == 2
    verified = json.loads(run("verify", "spool", folder=tmp_path).stdout)
    assert verified == {"ok": True, "files": 1, "bytes": os.path.getsize(path), "documents": 3, "damaged": []}


def test_the_configuration_says_where(tmp_path, spool):
    spool("1-prod.spool", spool_file("prod", [segment()]))
    config = tmp_path / "m.yaml"
    config.write_text('backends: { out: { type: "null" } }\nbuffer: { spool: { path: ./spool/ } }\n')
    assert json.loads(run("ls", "-c", config, folder=tmp_path).stdout)["documents"] == 1
    listed = run("ls", "-c", config, "--buffer.spool.path=elsewhere", folder=tmp_path, status=1)
    assert listed.stderr == "mobula spool: elsewhere: no such file\n"
    config.write_text('backends: { out: { type: "null" } }\n')
    assert "no buffer.spool.path" in run("verify", "-c", config, folder=tmp_path, status=1).stderr
    assert "which spool?" in run("verify", "-c", "none", folder=tmp_path, status=1).stderr


def test_verify_says_where_the_damage_is(tmp_path, spool):
    sound = spool_file("prod", [b"1" * 100], [b"2" * 200], [b"3" * 300])
    frames = [i for i in range(len(sound)) if sound.startswith(b"MbFr", i)]
    content = bytearray(sound)
    content[frames[1] + 100] ^= 1
    path = spool("2-prod.spool.damaged", content)
    spool("1-prod.spool", sound)
    torn = spool("3-prod.spool", sound[:-5])
    ran = run("verify", "--table", tmp_path / "spool", folder=tmp_path, status=1)
    place = f"  at {frames[1]}: the content of a frame of {frames[2] - frames[1]} bytes is damaged, 1 document lost\n"
    assert f"{path}\n{place}  2 documents still to be sent can be read\n  -> mobula spool replay" in ran.stdout
    assert ran.stdout.endswith(": 7 documents to be sent, 1 file damaged or unreadable\n")
    assert torn not in ran.stdout
    (damaged,) = json.loads(run("verify", "spool", folder=tmp_path, status=1).stdout)["damaged"]
    assert damaged["places"] == [{"offset": frames[1], "bytes": frames[2] - frames[1], "documents": 1}]


def test_replay_to_an_agent_and_through_a_backend(tmp_path, spool):
    documents = [segment(name=f"n{i}") for i in range(130)]
    foreign = spool("1-old.spool.foreign", spool_file("old", documents[:50], documents[50:100], done=1))
    spool("2-prod.spool", spool_file("prod", documents[100:]))
    with Mobula(tmp_path, {"out": {"type": "file", "path": "out.jsonl"}}) as m:
        ran = run("replay", "spool", "--to", f"127.0.0.1:{m.port}", "--rate", 2000, folder=tmp_path)
        result = json.loads(ran.stdout)
        assert (result["files"], result["documents"], result["failed"], result["send"]["sent"]) == (2, 129, [], 129)
        m.settled(129)
        m.stop()
    same_documents(read_lines(tmp_path / "out.jsonl"), documents[1:])

    ran = subprocess.run([BINARY, "replay", "--backends.o.type=file", "--backends.o.path=other.jsonl", foreign], cwd=tmp_path,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60 * PATIENCE, check=True)
    assert json.loads(ran.stdout)["ledger"]["delivered"] == 99
    same_documents(read_lines(tmp_path / "other.jsonl"), documents[1:100])


def test_a_running_agents_files_are_left_to_it(tmp_path, spool):
    spool("1-prod.spool", spool_file("prod", [segment()]))
    spool("2-old.spool.foreign", spool_file("old", [segment()]))
    lock = tmp_path / "spool" / INSTANCE / "lock"
    # As an agent holds it.
    holder = subprocess.Popen(["flock", "-x", lock, "sleep", "600"], start_new_session=True)
    try:
        def in_use():
            return all(g["in_use"] for g in json.loads(run("ls", "spool", folder=tmp_path).stdout)["groups"])
        wait_for(in_use, "the lock")
        ran = run("replay", "spool", "--to", "127.0.0.1:9", folder=tmp_path, status=1)
        assert ran.stderr.startswith("mobula spool: a running agent holds 1 file here") and not ran.stdout
        assert run("ls", "--table", "spool", folder=tmp_path).stdout.count("(in use)") == 2
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


def test_wrong_usage_and_help(tmp_path):
    assert '(did you mean "verify"?)' in run("verfy", folder=tmp_path, status=2).stderr
    run("replay", "spool", folder=tmp_path, status=2)
    run("ls", "--json", "--table", ".", folder=tmp_path, status=2)
    for command in ([], ["ls"], ["verify"], ["replay"]):
        assert "Usage: mobula spool" in run(*command, "--help", folder=tmp_path).stdout
