"""The X-Ray backend against a strict stand-in: every signature and body verified, every fault of a far side played."""
import collections
import json
import os

import pytest
from fake_xray import FakeXray, Key
from mobula import KEY, ROOT, HEADER, Mobula, captures, check_balance, read_lines, segment, wait_for

SEGMENTS = os.path.join(ROOT, "..", "shared", "testdata", "segments")


@pytest.fixture(name="xray")
def fixture_xray():
    with FakeXray(keys=[Key(*KEY)]) as fake:
        yield fake
        assert not fake.problems, fake.problems


def agent(folder, xray, **sections):
    backends = {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url}}
    return Mobula(folder, backends, **sections)


def same(got, sent):
    assert collections.Counter(got) == collections.Counter(sent)


def test_captures_arrive_signed_once_and_unchanged(tmp_path, xray):
    sent = captures()
    with agent(tmp_path, xray) as m:
        for datagram in sent.values():
            m.datagram(datagram)
        m.settled()
        ledger = m.stop()
        assert ledger["lanes"]["aws"]["delivered"] == len(sent)
    same(xray.documents, [d.split(b"\n", 1)[1].decode() for d in sent.values()])
    assert all("xray-daemon/" in request.header("User-Agent") for request in xray.requests)


@pytest.mark.skipif(not os.path.isdir(SEGMENTS), reason="the collection of foreign sample segments is not beside this checkout")
def test_sample_segments_arrive_unchanged(tmp_path, xray):
    documents = []
    with agent(tmp_path, xray) as m:
        for name in sorted(os.listdir(SEGMENTS)):
            with open(os.path.join(SEGMENTS, name), "rb") as f:
                data = f.read()
            if name.endswith((".packet", ".json")):
                m.datagram(data if name.endswith(".packet") else HEADER + data)
                if "malformed" not in name:
                    documents.append((data.split(b"\n", 1)[1] if name.endswith(".packet") else data).decode())
        m.settled()
        assert m.stop()["ingest"]["rejected"] == {"invalid_json": 1}
    same(xray.documents, documents)


def test_every_kind_of_text_survives_the_way(tmp_path, xray):
    documents = [segment(name=name).decode() for name in ("plain", "quote\" back\\slash", "\u0000\u001f\u007f", "漢字 😀 \u2028\u2029", "</script>&")]
    documents += [json.dumps(json.loads(segment(metadata={"a": "ä" * 5000})), indent=2, ensure_ascii=False)]
    documents += ['{"a":"' + "\\\\" * 20000 + '"}', '{"a":"' + "\\u00e9" * 9000 + '"}', " \t" + segment().decode() + "\r\n"]
    with agent(tmp_path, xray) as m:
        m.send(*[d.encode() for d in documents])
        m.settled()
        m.stop()
    same(xray.documents, documents)


def test_an_outage_costs_nothing(tmp_path, xray):
    documents = [segment() for _ in range(300)]
    with agent(tmp_path, xray) as m:
        m.send(*documents[:100])
        m.settled()
        for fault in ({"status": 503}, {"reset": True}, {"status": 400, "code": "ThrottlingException"}):
            xray.fail(**fault)
            m.send(*documents[100:200] if fault == {"status": 503} else [])
            begin = len(xray.requests)
            wait_for(lambda n=begin: len(xray.requests) >= n + 3, f"three calls into {fault}", 30)
        assert m.ledger()["lanes"]["aws"]["held"] == 100
        xray.heal()
        m.send(*documents[200:])
        check_balance(m.settled(seconds=30))
        assert m.stop()["lanes"]["aws"]["delivered"] == 300
    # At least once: a call that was cut may have arrived.
    assert set(xray.documents) == {d.decode() for d in documents}


def test_refused_documents_are_dead_lettered_and_harm_no_neighbour(tmp_path, xray):
    xray.refuse("poison", "InvalidName")
    xray.refuse("later", "ThrottledException", times=2)
    good, poison, later = segment(), segment(name="poison"), segment(name="later")
    with agent(tmp_path, xray, dead_letter={"path": "dead.jsonl"}) as m:
        m.send(good, poison, later)
        ledger = m.settled(seconds=30)
        check_balance(ledger)
        assert ledger["lanes"]["aws"]["delivered"] == 2
        assert ledger["lanes"]["aws"]["dropped"] == {"refused": 1}
        m.stop()
        (letter,) = read_lines(tmp_path / "dead.jsonl")
        assert json.loads(letter)["document"].encode() == poison
        assert "InvalidName" in letter.decode()
        assert json.loads(poison)["trace_id"] in m.log
    same(xray.documents, [good.decode(), later.decode()])


def test_temporary_credentials_are_sent_whole(tmp_path):
    key = Key("ASIATEMPORARY", "temp/secret+=", "IQoJ" + "b3Jp/+Z2lu" * 100 + "==")
    with FakeXray(keys=[key]) as xray:
        with Mobula(tmp_path, {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url}}, environment=key.environment()) as m:
            m.send(segment())
            m.settled()
            assert m.stop()["lanes"]["aws"]["delivered"] == 1
            assert key.secret not in m.log and key.token not in m.log
        assert not xray.problems
