"""The DaemonSet of k8s/examples: what it says, and that its command with its configuration does the daemon's work under
its memory limit, with the environment that EKS gives such a pod."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess

import pytest
import yaml
from fake_aws import FakeSts
from fake_xray import FakeXray, Key
from mobula import BINARY, HEADER, PATIENCE, ROOT, SANITIZED, captures, free_port, same_documents, segment, wait_for

EXAMPLE = os.path.join(ROOT, "k8s", "examples", "xray-daemon-eks.yaml")
PORTS = {(2000, "UDP"), (2000, "TCP")}


def quantity(text):
    """Of Kubernetes: "32Mi" in bytes, "256m" in units."""
    number, unit = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi|)", str(text)).groups()
    return int(number) * {"m": 0.001, "": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}[unit]


@pytest.fixture(name="objects", scope="module")
def fixture_objects():
    with open(EXAMPLE, encoding="utf-8") as f:
        found = {o["kind"]: o for o in yaml.safe_load_all(f)}
    assert sorted(found) == ["ConfigMap", "DaemonSet", "Service", "ServiceAccount"]
    return found


def container(objects):
    (only,) = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    return only


# --- what it says -------------------------------------------------------------------------------------------

def test_objects_refer_to_each_other(objects):
    assert {o["metadata"]["namespace"] for o in objects.values()} == {"default"}
    pod = objects["DaemonSet"]["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"] == "xray-daemon"
    labels = pod["metadata"]["labels"]
    assert objects["DaemonSet"]["spec"]["selector"]["matchLabels"] == labels == objects["Service"]["spec"]["selector"]
    (volume,), (mount,) = pod["spec"]["volumes"], container(objects)["volumeMounts"]
    assert volume["name"] == mount["name"]
    assert volume["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    command = container(objects)["command"]
    assert [os.path.join(mount["mountPath"], name) for name in objects["ConfigMap"]["data"]] == [command[2]]


def test_it_is_the_daemons_but_for_the_image(objects):
    c = container(objects)
    assert c["command"] == ["/usr/bin/xray", "-c", "/aws/xray/config.yaml"] and "args" not in c
    assert "mobula" in c["image"]
    assert {(p["containerPort"], p["protocol"]) for p in c["ports"]} == {(p["hostPort"], p["protocol"]) for p in c["ports"]} == PORTS
    assert c["resources"] == {"requests": {"cpu": "256m", "memory": "32Mi"}, "limits": {"cpu": "512m", "memory": "64Mi"}}
    assert yaml.safe_load(objects["ConfigMap"]["data"]["config.yaml"]) == {
        "TotalBufferSizeMB": 24, "Socket": {"UDPAddress": "0.0.0.0:2000", "TCPAddress": "0.0.0.0:2000"}, "Version": 2}
    service = objects["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert {(p["port"], p["protocol"]) for p in service["ports"]} == PORTS
    assert re.fullmatch(r"arn:aws:iam::\d{12}:role/\S+", objects["ServiceAccount"]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"])


# --- what it does -------------------------------------------------------------------------------------------

class MemoryLimit:
    """A control group of its own below this process's, of either version."""

    def __init__(self, size):
        with open("/proc/self/cgroup", encoding="ascii") as f:
            groups = {line.split(":", 2)[1]: line.strip().split(":", 2)[2] for line in f}
        if "memory" in groups:
            base, limit, self.peak_file = "/sys/fs/cgroup/memory" + groups["memory"], "memory.limit_in_bytes", "memory.max_usage_in_bytes"
        else:
            base, limit, self.peak_file = "/sys/fs/cgroup" + groups[""], "memory.max", "memory.peak"
        self.path = os.path.join(base, f"mobula-test-{os.getpid()}")
        os.mkdir(self.path)
        try:
            with open(os.path.join(self.path, limit), "w", encoding="ascii") as f:
                f.write(str(size))
        except OSError:
            os.rmdir(self.path)
            raise

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write(str(os.getpid()))

    def peak(self):
        with contextlib.suppress(FileNotFoundError):  # memory.peak is younger than version 2
            with open(os.path.join(self.path, self.peak_file), encoding="ascii") as f:
                return int(f.read())
        return 0

    def end(self):
        with contextlib.suppress(OSError):
            os.rmdir(self.path)


@pytest.fixture(name="limit")
def fixture_limit(objects):
    size = int(quantity(container(objects)["resources"]["limits"]["memory"]))
    try:
        group = MemoryLimit(size)
    except (OSError, KeyError) as e:
        pytest.skip(f"no control group can be made here: {e}")
    yield group, size
    group.end()


class Pod:
    """The container's command in a folder that stands for its root; the port is another one."""

    def __init__(self, folder, objects, environment, enter=None):
        self.port = free_port()
        program, flag, config = container(objects)["command"]
        self.program = os.path.join(folder, program.lstrip("/"))
        self.config = os.path.join(folder, config.lstrip("/"))
        for path in (self.program, self.config):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.path.abspath(BINARY), self.program)
        text = objects["ConfigMap"]["data"][os.path.basename(config)]
        assert text.count(":2000") == 2
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(text.replace(":2000", f":{self.port}"))
        self.log_path = os.path.join(folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([self.program, flag, self.config], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=enter)

    def __enter__(self):
        wait_for(lambda: self.process.poll() is not None or "Starting proxy http server" in self.log, lambda: self.log)
        assert self.process.poll() is None, self.log
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if kind:
            print(self.log[-6000:])

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def send(self, datagrams):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for datagram in datagrams:
                s.sendto(datagram, ("127.0.0.1", self.port))


def irsa(folder, objects, sts, xray):
    """What EKS adds to the environment of a pod with such an annotation, and where the fakes are."""
    role = objects["ServiceAccount"]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    sts.allow(role)
    sts.tokens.add("projected.token")
    token = os.path.join(folder, "token")
    with open(token, "w", encoding="ascii") as f:
        f.write("projected.token")
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG") or k.endswith("SAN_OPTIONS")}
    return {**env, "AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_REGION": xray.region, "AWS_STS_REGIONAL_ENDPOINTS": "regional",
            "AWS_ENDPOINT_URL_STS": sts.url, "AWS_ENDPOINT_URL_XRAY": xray.url, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "MOBULA_ADMIN_ADDRESS": f"127.0.0.1:{free_port()}"}


@pytest.fixture(name="fakes")
def fixture_fakes():
    with FakeXray(keys=[Key("NOBODY", "x")]) as xray, FakeSts(keys=[], services=[xray], region=xray.region) as sts:
        yield sts, xray
        assert not sts.problems and not xray.problems, (sts.problems, xray.problems)


def test_the_pod_delivers_as_the_role_of_its_annotation(tmp_path, objects, fakes):
    sts, xray = fakes
    sent = list(captures().values())
    env = irsa(str(tmp_path), objects, sts, xray)
    with Pod(str(tmp_path), objects, env) as pod:
        pod.send(sent)
        wait_for(lambda: len(xray.documents) >= len(sent), lambda: f"{len(xray.documents)} of {len(sent)} documents", 30)
        same_documents(xray.documents, [d.split(b"\n", 1)[1].decode() for d in sent])
        # The probe that the manifest suggests, in the same environment.
        probe = subprocess.run([BINARY, "health"], env=env, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
        assert (probe.returncode, probe.stdout) == (0, "ok\n"), probe
        ready = subprocess.run([BINARY, "health", "--ready"], env=env, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
        assert (ready.returncode, ready.stdout) == (0, "ready\n"), ready
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(30 * PATIENCE) == 0
    assert [call["Action"] for call in sts.calls] == ["AssumeRoleWithWebIdentity"]
    assert sts.calls[0]["RoleArn"] == env["AWS_ROLE_ARN"]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is beyond the limit")
def test_the_pod_lives_within_its_limit_while_x_ray_is_away(tmp_path, objects, fakes, limit):
    group, size = limit
    sts, xray = fakes
    with Pod(str(tmp_path), objects, irsa(str(tmp_path), objects, sts, xray), group.enter) as pod:
        with open(f"/proc/{pod.process.pid}/cgroup", encoding="ascii") as f:
            assert os.path.basename(group.path) in f.read()
        document = segment(name="before")
        pod.send([HEADER + document])
        wait_for(lambda: xray.documents == [document.decode()], "the first segment", 30)
        xray.fail(status=503)
        # Far more than the buffer holds: the oldest go, the process stays.
        large = HEADER + segment(user="x" * 40000)
        def spills():
            pod.send([large] * 50)
            assert pod.process.poll() is None, pod.log[-2000:]
            return "Spilling over" in pod.log

        wait_for(spills, lambda: pod.log[-2000:], 60)
        pod.send([large] * 500)
        xray.heal()
        last = segment(name="after")

        def arrives():
            pod.send([HEADER + last])
            return last.decode() in xray.documents

        wait_for(arrives, lambda: pod.log[-2000:], 60)
        assert pod.process.poll() is None
        assert group.peak() <= size
        pod.process.send_signal(signal.SIGTERM)
        assert pod.process.wait(30 * PATIENCE) == 0
    assert json.loads(xray.documents[0])["name"] == "before"
