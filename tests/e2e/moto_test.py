"""The X-Ray backend against moto, an AWS of somebody else's that verifies signatures."""
import collections
import contextlib
import json
import os
import subprocess
import sys
import urllib.request

import boto3
import pytest
from mobula import Mobula, captures, check_balance, free_port, segment, wait_for

REGION = "us-east-1"


class Moto:
    """moto_server with one user who may do everything; from then on each call must be signed rightly."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        server = os.path.join(os.path.dirname(sys.executable), "moto_server")
        self.log = open(os.path.join(folder, "moto.txt"), "wb")
        self.process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(self.port)], stdout=self.log, stderr=self.log,
                                        env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "50"})
        wait_for(self.answers, "moto", 30)
        iam = self.client("iam", "any", "any")
        iam.create_user(UserName="agent")
        iam.put_user_policy(UserName="agent", PolicyName="all", PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}))
        key = iam.create_access_key(UserName="agent")["AccessKey"]
        self.id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        self.request("/moto-api/reset-auth", b"0")

    def client(self, service, key, secret):
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, aws_access_key_id=key, aws_secret_access_key=secret)

    def request(self, path, data=None):
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def answers(self):
        with contextlib.suppress(OSError):
            return bool(self.request("/moto-api/data.json"))
        return False

    def documents(self, trace_ids):
        """Everything stored under these traces, as moto was given it."""
        xray, found, wanted = self.client("xray", self.id, self.secret), [], sorted(trace_ids)
        for begin in range(0, len(wanted), 5):
            for trace in xray.batch_get_traces(TraceIds=wanted[begin : begin + 5])["Traces"]:
                found += [s["Document"] for s in trace["Segments"]]
        return found

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(name="moto", scope="module")
def fixture_moto(tmp_path_factory):
    server = Moto(tmp_path_factory.mktemp("moto"))
    yield server
    server.close()


def agent(folder, moto, secret, **sections):
    backends = {"aws": {"type": "xray", "region": REGION, "endpoint": moto.url}}
    return Mobula(folder, backends, environment={"AWS_ACCESS_KEY_ID": moto.id, "AWS_SECRET_ACCESS_KEY": secret}, **sections)


def test_captures_arrive_signed_and_unchanged(tmp_path, moto):
    # moto takes JSON only.
    datagrams = [d for d in captures().values() if not d.split(b"\n", 1)[1].startswith(b"T1S")]
    documents = [d.split(b"\n", 1)[1].decode() for d in datagrams]
    with agent(tmp_path, moto, moto.secret) as m:
        for datagram in datagrams:
            m.datagram(datagram)
        check_balance(m.settled())
        ledger = m.stop()
        assert ledger["lanes"]["aws"]["delivered"] == len(documents), m.log[-2000:]
    stored = moto.documents({json.loads(d)["trace_id"] for d in documents})
    assert collections.Counter(stored) == collections.Counter(documents)


def test_a_wrong_secret_is_told_and_nothing_is_thrown_away(tmp_path, moto):
    wrong = ("A" if moto.secret[0] != "A" else "B") + moto.secret[1:]
    with agent(tmp_path, moto, wrong, shutdown={"grace": "1s"}) as m:
        m.send(*[segment() for _ in range(10)])
        wait_for(lambda: "SignatureDoesNotMatch" in m.log, "the reason in the log")
        wait_for(lambda: "degraded" in m.get("/readyz")[1], lambda: f"readiness to tell: {m.get('/readyz')}")
        assert m.get("/readyz")[0] == 200
        lane = m.ledger()["lanes"]["aws"]
        assert (lane["delivered"], lane["held"], lane["dropped"]) == (0, 10, {}), lane
        assert m.stop()["lanes"]["aws"]["dropped"] == {"shutdown": 10}
        assert wrong not in m.log
