"""What the running agent has given away: user, privileges, system calls; and that everything works without."""
import ctypes
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest
from mobula import BINARY, Mobula, read_lines, same_documents, segment, wait_for

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
NOBODY = pwd.getpwnam("nobody")
NONE = "0000000000000000"


@pytest.fixture(name="folder")
def open_folder():
    """A folder that other users get into, unlike pytest's."""
    folder = tempfile.mkdtemp(prefix="mobula-hardening-", dir="/tmp")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)


def threads(m):
    """What the kernel says of each thread, by its name."""
    found = {}
    for path in glob.glob(f"/proc/{m.process.pid}/task/*/status"):
        with open(path, encoding="utf-8") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        found[status["Name"]] = {key: re.sub(r"\s+", " ", value).strip() for key, value in status.items()}
    assert {"cold", "admin", "worker-0"} <= found.keys(), found.keys()
    return found


def owner(path):
    made = os.stat(path)
    return made.st_uid, made.st_gid, f"{made.st_mode & 0o7777:04o}"


@ROOT_ONLY
@pytest.mark.parametrize("engine", ["io_uring", "recvmmsg"])
def test_root_becomes_the_user_and_keeps_nothing(folder, engine):
    mine = [segment() for _ in range(20)]
    config = {"backends": {"out": {"type": "file", "path": f"{folder}/new/a/out.jsonl"}}, "udp": {"engine": engine},
              "log": {"path": f"{folder}/new/log/mobula.log", "format": "json", "level": "debug"},
              "dead_letter": {"path": f"{folder}/new/dead/dead.jsonl"}, "buffer": {"spool": {"path": f"{folder}/new/spool"}},
              "security": {"user": "nobody"}}
    with Mobula(folder, **config) as m:
        for name, status in threads(m).items():
            assert status["Uid"] == " ".join([str(NOBODY.pw_uid)] * 4), (name, status)
            assert status["Gid"] == " ".join([str(NOBODY.pw_gid)] * 4), (name, status)
            assert status["Groups"] == "", (name, status)
            assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {NONE}, (name, status)
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), (name, status)
        # The kernel gives what may not be dumped to root.
        assert owner(f"/proc/{m.process.pid}/fd")[:2] == (0, 0)
        m.send(*mine[:10])
        m.datagram(b"no header")
        m.settled()
        # As logrotate does it: the new file is opened by the new user.
        for path in ("new/a/out.jsonl", "new/log/mobula.log"):
            os.rename(f"{folder}/{path}", f"{folder}/{path}.old")
        m.process.send_signal(signal.SIGHUP)
        wait_for(lambda: os.path.exists(f"{folder}/new/log/mobula.log"), "the log opened again")
        m.send(*mine[10:])
        m.settled()
        m.process.terminate()
        assert m.process.wait(30) == 0
    same_documents(read_lines(f"{folder}/new/a/out.jsonl.old") + read_lines(f"{folder}/new/a/out.jsonl"), mine)
    ids = NOBODY.pw_uid, NOBODY.pw_gid
    # What the spool keeps in it, or does not, is its own.
    spool = {owner(path) for path in (f"{folder}/new/spool", *glob.glob(f"{folder}/new/spool/*"))}
    assert spool == {(*ids, "0700")}, spool
    shutil.rmtree(f"{folder}/new/spool")
    made = {os.path.relpath(path, folder): owner(path) for path in glob.glob(f"{folder}/new/**", recursive=True)}
    assert made == {"new": (*ids, "0750"), "new/a": (*ids, "0750"), "new/log": (*ids, "0750"), "new/dead": (*ids, "0700"),
                    "new/a/out.jsonl": (*ids, "0640"), "new/a/out.jsonl.old": (*ids, "0640"),
                    "new/log/mobula.log": (*ids, "0640"), "new/log/mobula.log.old": (*ids, "0640"),
                    "new/dead/dead.jsonl": (*ids, "0600")}


def keep_of_root(*capabilities):
    """As a container that drops all capabilities and adds these."""
    prctl, drop = ctypes.CDLL(None).prctl, 24
    for number in range(64):
        if number not in capabilities:
            prctl(drop, number, 0, 0, 0)


@ROOT_ONLY
def test_three_capabilities_are_enough_for_root(folder):
    os.chown(folder, 54321, 54321)
    m = Mobula(folder, {"out": {"type": "file", "path": "out.jsonl"}}, start=False, security={"user": "54321"},
               udp={"receive_buffer": "64MiB"})
    set_gid, set_uid, net_admin = 6, 7, 12
    m.start(preexec_fn=lambda: keep_of_root(set_gid, set_uid, net_admin))
    with m:
        assert m.events("receive_engine")[0]["queue_bytes"] == 64 << 20
        assert {status["CapPrm"] for status in threads(m).values()} == {NONE}
        m.send(segment())
        m.settled()
        m.stop()
    assert owner(f"{folder}/out.jsonl") == (54321, 54321, "0640")


@ROOT_ONLY
def test_ports_and_queues_that_need_privilege_are_had_before(folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for port in range(1023, 900, -1):
            try:
                s.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
    udp = {"address": f"127.0.0.1:{port}", "receive_buffer": "64MiB"}
    with Mobula(folder, {"out": {"type": "null"}}, udp=udp, receivers=None, start=False, security={"user": "54321:54321"}) as m:
        m.config["receivers"] = {"udp": udp, "proxy": {"address": f"127.0.0.1:{m.port}"}}
        with open(m.config_path, "w", encoding="utf-8") as f:
            json.dump(m.config, f)
        m.start()
        # More than net.core.rmem_max: only CAP_NET_ADMIN gets it.
        assert m.events("receive_engine")[0]["queue_bytes"] == 64 << 20
        assert threads(m)["worker-0"]["Uid"].startswith("54321 ")
        m.socket.connect(("127.0.0.1", port))
        m.send(segment())
        assert m.settled()["ingest"]["accepted"] == 1
        m.stop()


def test_without_a_user_it_stays_who_it_is_without_privileges(tmp_path):
    with Mobula(tmp_path, {"out": {"type": "file", "path": "out.jsonl"}}) as m:
        for name, status in threads(m).items():
            assert status["Uid"] == " ".join([str(os.geteuid())] * 4), (name, status)
            assert {status["CapEff"], status["CapPrm"], status["CapInh"]} == {NONE}, (name, status)
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), (name, status)
        m.send(segment())
        m.settled()
        m.stop()


@pytest.mark.parametrize("mode, seccomp, said", [("off", "0", "not filtered"), ("log", "2", "logged"), ("on", "2", "filtered")])
def test_the_filter_can_be_chosen(tmp_path, mode, seccomp, said):
    with Mobula(tmp_path, {"out": {"type": "null"}}, environment={"MOBULA_SECURITY_SECCOMP": mode}) as m:
        assert {status["Seccomp"] for status in threads(m).values()} == {seccomp}
        assert m.events("hardened")[0]["message"].endswith(f"without privileges, system calls {said}")
        m.stop()


def forbid_filters():
    """As a container's runtime may: neither way to a filter is open."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]

    class Compare(ctypes.Structure):
        _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

    lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]
    context, refuse = lib.seccomp_init(0x7FFF0000), 0x00050001  # allow; EPERM
    set_seccomp = (Compare * 1)(Compare(0, 4, 22, 0))
    assert lib.seccomp_rule_add_array(context, refuse, lib.seccomp_syscall_resolve_name(b"seccomp"), 0, None) == 0
    assert lib.seccomp_rule_add_array(context, refuse, lib.seccomp_syscall_resolve_name(b"prctl"), 1, set_seccomp) == 0
    assert lib.seccomp_load(context) == 0


def test_where_filters_are_forbidden_it_says_so_and_goes_on(tmp_path):
    m = Mobula(tmp_path, {"out": {"type": "null"}}, start=False)
    m.start(preexec_fn=forbid_filters)
    with m:
        m.send(segment())
        m.settled()
        assert "not filtered: " in m.events("seccomp_unavailable")[0]["message"]
        assert m.events("hardened")[0]["message"].endswith("not filtered")
        m.stop()


def run(config, **options):
    return subprocess.run([BINARY, "run", *config], capture_output=True, text=True, timeout=60, check=False, cwd="/", **options)


def test_a_user_that_is_not_there_ends_the_start():
    ran = run(["--backends.out.type=null", "--security.user=no-such-user"])
    assert (ran.returncode, ran.stderr) == (1, "security.user: no user is named \"no-such-user\": expected a name of this "
                                               "machine's, or a number\n")
    ran = run(["--backends.out.type=null", "--security.user=a b"])
    assert ran.returncode == 1 and "expected a user and perhaps a group" in ran.stderr, ran


@ROOT_ONLY
def test_who_is_not_root_cannot_become_somebody_else():
    ran = run(["--backends.out.type=null", "--security.user=nobody"], user=54321, group=54321, extra_groups=[])
    assert ran.returncode == 1 and "cannot become user" in ran.stderr and "start as root" in ran.stderr, ran


@ROOT_ONLY
def test_a_file_that_the_user_may_not_write_ends_the_start(folder):
    ran = run(["--backends.out.type=null", "--security.user=nobody", f"--log.path={folder}/mobula.log"])
    assert ran.returncode == 1 and f"{folder}/mobula.log" in ran.stderr and "denied" in ran.stderr.lower(), ran
