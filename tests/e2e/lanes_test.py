"""A backend that hangs or is slow harms neither its neighbours nor the receiver."""
import http.server
import json
import socket
import threading
import time

from mobula import Mobula, check_balance, read_lines, same_documents, segment, wait_for


class SlowXRay(http.server.BaseHTTPRequestHandler):
    """Takes every call, 200 ms later."""

    protocol_version = "HTTP/1.1"
    taken = None

    def do_POST(self):
        documents = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["TraceSegmentDocuments"]
        time.sleep(0.2)
        self.taken.extend(documents)
        answer = b'{"UnprocessedTraceSegments":[]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_a_hanging_and_a_slow_backend_leave_the_healthy_one_alone(tmp_path):
    taken = []
    slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Slow", (SlowXRay,), {"taken": taken}))
    threading.Thread(target=slow.serve_forever, daemon=True).start()
    # Accepts nothing: connections wait in the backlog, requests are never read.
    hanging = socket.socket()
    hanging.bind(("127.0.0.1", 0))
    hanging.listen(200)

    def xray(port):
        return {"type": "xray", "region": "us-east-1", "endpoint": f"http://127.0.0.1:{port}", "timeout": "60s"}

    backends = {"hanging": xray(hanging.getsockname()[1]), "slow": xray(slow.server_port),
                "healthy": {"type": "file", "path": "out.jsonl"}}
    # A small buffer, so that the lanes in trouble run out of their quotas within the test.
    with Mobula(tmp_path, backends, buffer={"memory": "12MiB"}, shutdown={"grace": "3s"}) as m:
        documents = [segment(metadata={"pad": "x" * 500, "n": n}) for n in range(20000)]
        late = 0.0
        for begin in range(0, len(documents), 2000):
            m.send(*documents[begin : begin + 2000], rate=4000)
            sent_at = time.monotonic()
            wait_for(lambda n=begin + 2000: len(read_lines(tmp_path / "out.jsonl")) >= n, "the healthy backend to keep up", 4)
            late = max(late, time.monotonic() - sent_at)
        print(f"healthy at most {late:.2f} s behind")
        ledger = m.settled(lanes=["healthy"])
        check_balance(ledger)
        assert ledger["ingest"]["kernel_drops"] == 0
        assert ledger["ingest"]["accepted"] == len(documents)
        lanes = ledger["lanes"]
        assert lanes["healthy"]["delivered"] == len(documents)
        assert sum(lanes["healthy"]["dropped"].values()) == 0
        assert lanes["hanging"]["delivered"] == 0
        assert lanes["hanging"]["dropped"].get("buffer_full", 0) > 0
        assert lanes["slow"]["delivered"] > 0
        begin = time.monotonic()
        final = m.stop()
        assert time.monotonic() - begin < 10
        assert final["lanes"]["hanging"]["dropped"].get("shutdown", 0) > 0
        assert final["lanes"]["slow"]["delivered"] <= len(taken)
    same_documents(read_lines(tmp_path / "out.jsonl"), documents)
    slow.shutdown()
    hanging.close()
