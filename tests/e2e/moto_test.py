"""The X-Ray backend against moto, an AWS of somebody else's that verifies signatures."""
import collections
import json

import pytest
from mobula import Mobula, captures, check_balance, segment, wait_for
from moto_peer import REGION, Moto


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
