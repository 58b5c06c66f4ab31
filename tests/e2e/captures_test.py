"""What real SDKs sent comes out of the file backend: byte for byte when framed, as the same JSON as lines."""
import json
import os

import pytest
from mobula import HEADER, ROOT, Mobula, captures, check_balance, read_framed, read_lines, same_documents, segment

SEGMENTS = os.path.join(ROOT, "..", "shared", "testdata", "segments")
FILES = {"framed": {"type": "file", "path": "out.framed", "format": "framed"}, "lines": {"type": "file", "path": "out.jsonl"}}


def body(datagram):
    return datagram.split(b"\n", 1)[1]


def as_json(documents):
    """JSON texts as comparable values; T1S documents, which are no JSON, as they are."""
    return [d.decode() if d.startswith(b"T1S") else json.dumps(json.loads(d), sort_keys=True) for d in documents]


@pytest.mark.parametrize("engine", ["auto", "recvmmsg"])
def test_captures_arrive_once_and_unchanged(tmp_path, engine):
    sent = captures()
    with Mobula(tmp_path, FILES, udp={"engine": engine}) as m:
        for datagram in sent.values():
            m.datagram(datagram)
        check_balance(m.settled())
        ledger = m.stop()
        assert ledger["ingest"]["accepted"] == len(sent)
        documents = [body(d) for d in sent.values()]
        same_documents(read_framed(tmp_path / "out.framed"), documents)
        same_documents(as_json(read_lines(tmp_path / "out.jsonl")), as_json(documents))


def test_line_ends_between_tokens_become_blanks(tmp_path):
    document = json.dumps(json.loads(segment(name="pretty\\n")), indent=2).encode().replace(b"\n", b"\r\n")
    with Mobula(tmp_path, FILES) as m:
        m.send(document)
        m.settled()
        m.stop()
        assert read_framed(tmp_path / "out.framed") == [document]
        assert read_lines(tmp_path / "out.jsonl") == [document.replace(b"\r", b" ").replace(b"\n", b" ")]


@pytest.mark.skipif(not os.path.isdir(SEGMENTS), reason="the collection of foreign sample segments is not beside this checkout")
def test_sample_segments_arrive_and_the_malformed_one_is_dead_lettered(tmp_path):
    documents, malformed = [], []
    with Mobula(tmp_path, FILES, dead_letter={"path": "dead.jsonl"}) as m:
        for name in sorted(os.listdir(SEGMENTS)):
            with open(os.path.join(SEGMENTS, name), "rb") as f:
                data = f.read()
            if name.endswith(".packet"):
                m.datagram(data)
                data = body(data)
            elif name.endswith(".json"):
                m.datagram(HEADER + data)
            else:
                continue
            (malformed if "malformed" in name else documents).append(data)
        assert len(documents) > 30 and len(malformed) == 1
        m.settled()
        ledger = m.stop()
        assert ledger["ingest"]["rejected"] == {"invalid_json": 1}
        same_documents(read_framed(tmp_path / "out.framed"), documents)
        same_documents(as_json(read_lines(tmp_path / "out.jsonl")), as_json(documents))
        (letter,) = read_lines(tmp_path / "dead.jsonl")
        assert json.loads(letter)["reason"] == "invalid_json"
        assert json.loads(letter)["document"].encode() == malformed[0]
