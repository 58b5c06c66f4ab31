"""Each strange datagram ends as documented: refused under its reason, or delivered byte for byte. Never a crash."""
import os
import random

import pytest
from mobula import HEADER, Mobula, check_balance, read_framed, read_lines, same_documents, segment

GOOD = b'{"name":"x","n":1}'

# What is wrong with the datagram -> (datagram, the reason it is refused for).
REFUSED = {
    "no byte at all": (b"", "empty"),
    "a header alone": (HEADER[:-1], "missing_header"),
    "a body alone": (GOOD, "missing_header"),
    "one byte": (b"x", "missing_header"),
    "nothing behind the header": (HEADER, "missing_segment"),
    "a line end alone": (b"\n", "missing_segment"),
    "a line end first": (b"\n" + GOOD, "invalid_header"),
    "garbage as header": (b"garbage\n" + GOOD, "invalid_header"),
    "version 2": (b'{"format":"json","version":2}\n' + GOOD, "invalid_header"),
    "version as text": (b'{"format":"json","version":"1"}\n' + GOOD, "invalid_header"),
    "version with a fraction": (b'{"format":"json","version":1.0}\n' + GOOD, "invalid_header"),
    "no version": (b'{"format":"json"}\n' + GOOD, "invalid_header"),
    "no format": (b'{"version":1}\n' + GOOD, "invalid_header"),
    "another format": (b'{"format":"xml","version":1}\n' + GOOD, "invalid_header"),
    "text behind the header": (b'{"format":"json","version":1} x\n' + GOOD, "invalid_header"),
    "an unfinished header": (b'{"format":"json","version":1\n' + GOOD, "invalid_header"),
    "an array as header": (b"[]\n" + GOOD, "invalid_header"),
    "60 KB of control characters as header": (bytes(range(1, 9)) * 7500 + b"\n" + GOOD, "invalid_header"),
    "a word as body": (HEADER + b"hello", "unknown_body"),
    "a blank as body": (HEADER + b" ", "unknown_body"),
    "an array as body": (HEADER + b"[{}]", "unknown_body"),
    "a number as body": (HEADER + b"0", "unknown_body"),
    "null as body": (HEADER + b"null", "unknown_body"),
    "markup as body": (HEADER + b"<xml/>", "unknown_body"),
    "forty NULs": (HEADER + b"\x00" * 40, "unknown_body"),
    "an unfinished object": (HEADER + b'{"id":', "invalid_json"),
    "a NUL inside a string": (HEADER + b'{"a":"x\x00y"}', "invalid_json"),
    "a control character inside a string": (HEADER + b'{"a":"x\x01y"}', "invalid_json"),
    "a NUL behind the object": (HEADER + GOOD + b"\x00", "invalid_json"),
    "a trailing comma": (HEADER + b'{"a":1,}', "invalid_json"),
    "a comment": (HEADER + b'{"a":1/*x*/}', "invalid_json"),
    "NaN": (HEADER + b'{"a":NaN}', "invalid_json"),
    "a leading zero": (HEADER + b'{"a":01}', "invalid_json"),
    "two documents": (HEADER + GOOD + b"\n" + GOOD, "invalid_json"),
    "a second header": (HEADER + GOOD + b"\n" + HEADER + GOOD, "invalid_json"),
    "10,000 brackets that never close": (HEADER + b'{"a":' + b"[" * 10000, "invalid_json"),
    "64 KB that break at the last byte": (HEADER + b'{"a":"' + b"x" * 65000 + b'"', "invalid_json"),
    "a byte order mark": (HEADER + b"\xef\xbb\xbf" + GOOD, "unknown_body"),
}

# What is unusual about the datagram -> (datagram, the document that must come out).
ROOM = 65507 - len(HEADER)
ACCEPTED = {
    "no blanks in the header": (b'{"format":"json","version":1}\n' + GOOD, GOOD),
    "a carriage return before the line end": (b'{"format":"json","version":1}\r\n' + GOOD, GOOD),
    "blanks around the header": (b'  { "format" : "json" , "version" : 1 }\t\n' + GOOD, GOOD),
    "capitals in the header": (b'{"FORMAT":"JSON","Version":1}\n' + GOOD, GOOD),
    "more members in the header": (b'{"format":"json","version":1,"more":{"a":[1,null]}}\n' + GOOD, GOOD),
    "a version again, of a wrong type": (b'{"format":"json","version":1,"version":"x"}\n' + GOOD, GOOD),
    "an empty object": (HEADER + b"{}", b"{}"),
    "blanks around the document": (HEADER + b" \t" + GOOD + b"\r\n", b" \t" + GOOD + b"\r\n"),
    "a line end before the document": (HEADER + b"\n" + GOOD, b"\n" + GOOD),
    "the largest datagram": (HEADER + b'{"a":"' + b"x" * (ROOM - 8) + b'"}', b'{"a":"' + b"x" * (ROOM - 8) + b'"}'),
    "a NUL, escaped": (HEADER + b'{"a":"\\u0000"}', b'{"a":"\\u0000"}'),
    "depth 10,000": (HEADER + b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}", b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}"),
    "1e400": (HEADER + b'{"a":1e400,"b":-1E-400}', b'{"a":1e400,"b":-1E-400}'),
    "an integer of 500 digits": (HEADER + b'{"a":' + b"7" * 500 + b"}", b'{"a":' + b"7" * 500 + b"}"),
    "a lone high surrogate": (HEADER + b'{"a":"\\ud800"}', b'{"a":"\\ud800"}'),
    "a lone low surrogate": (HEADER + b'{"a":"\\udc00 x"}', b'{"a":"\\udc00 x"}'),
    "the same member twice": (HEADER + b'{"id":"a","id":"b"}', b'{"id":"a","id":"b"}'),
    "raw characters beyond ASCII": (HEADER + '{"a":"é漢😀\u2028"}'.encode(), '{"a":"é漢😀\u2028"}'.encode()),
    "bytes that are no UTF-8": (HEADER + b'{"a":"\xff-\xc0"}', '{"a":"\ufffd-\ufffd"}'.encode()),
    "a surrogate encoded as UTF-8": (HEADER + b'{"a":"\xed\xa0\x80"}', '{"a":"\ufffd\ufffd\ufffd"}'.encode()),
    "64 KB of bytes that are no UTF-8": (HEADER + b'{"a":"' + b"\xff" * 60000 + b'"}', b'{"a":"' + b"\xef\xbf\xbd" * 60000 + b'"}'),
    "OTLP in base64": (HEADER + b"T1SCgIIAQ==", b"T1SCgIIAQ=="),
    "OTLP of an unsampled span": (HEADER + b"T1UCgIIAQ==", b"T1UCgIIAQ=="),
}


@pytest.fixture(name="mobula", params=["auto", "recvmmsg"])
def fixture_mobula(tmp_path, request):
    out = {"out": {"type": "file", "path": "out.framed", "format": "framed"}}
    with Mobula(tmp_path, out, udp={"engine": request.param}, dead_letter={"path": "dead.jsonl"}, batch={"age": "50ms"}) as m:
        yield m


def test_every_row_ends_as_documented(mobula, tmp_path):
    before = {}
    for what, (datagram, reason) in REFUSED.items():
        mobula.datagram(datagram)
        before[reason] = before.get(reason, 0) + 1
        # A row at a time, so that a wrong reason is told with its row.
        assert mobula.settled()["ingest"]["rejected"] == before, what
    for datagram, _ in ACCEPTED.values():
        mobula.datagram(datagram)
    ledger = mobula.settled()
    check_balance(ledger)
    assert ledger["ingest"]["accepted"] == len(ACCEPTED)
    mobula.stop()
    same_documents(read_framed(tmp_path / "out.framed"), [document for _, document in ACCEPTED.values()])
    bodies = [d for d, reason in REFUSED.values() if reason in ("unknown_body", "invalid_json")]
    assert len(read_lines(tmp_path / "dead.jsonl")) >= len(bodies)


def test_refused_headers_cannot_forge_or_flood_the_log(mobula):
    for i in range(200):
        mobula.datagram(b'\x1b[31m{"level":"error"}\r' + b"A" * 60000 + b"%d\n{}" % i)
        # A hundred of these fill the kernel's queue.
        if i % 50 == 0:
            mobula.settled()
    mobula.settled()
    mobula.stop()
    lines = mobula.log.split("\n")
    assert max(map(len, lines)) <= 4096
    assert not any(ord(c) < 32 for line in lines for c in line)
    assert len(lines) < 200


def test_random_bytes_harm_nobody(mobula, tmp_path):
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance, good = random.Random(seed), []
    for i in range(1500):
        mangled = bytearray(HEADER + segment(metadata={"n": i}))
        for _ in range(chance.randrange(1, 6)):
            mangled[chance.randrange(len(mangled))] = chance.randrange(256)
        mobula.datagram(bytes(mangled[: chance.randrange(len(mangled) + 1)]))
        mobula.datagram(chance.randbytes(chance.randrange(300)))
        if i % 50 == 0:
            good.append(segment(name=f"good-{i}"))
            mobula.send(good[-1])
            mobula.settled()
    mobula.settled()
    mobula.stop()
    arrived = read_framed(tmp_path / "out.framed")
    assert set(good) <= set(arrived)
