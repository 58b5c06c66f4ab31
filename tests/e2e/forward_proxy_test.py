"""Through a forward proxy: segments and sampling calls, plain and in a tunnel, and past it where NO_PROXY says so."""
import contextlib
import http.client
import select
import socket
import socketserver
import threading

import pytest
from certificate import certificate
from fake_xray import FakeXray, Key
from mobula import KEY, Mobula, segment, wait_for


class ForwardProxy(socketserver.ThreadingTCPServer):
    """Passes on what it is asked for, whole URLs and tunnels, and keeps the first lines and authorizations."""
    allow_reuse_address = daemon_threads = True

    def __init__(self):
        self.asked, self.authorizations = [], []
        super().__init__(("127.0.0.1", 0), Connection)

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode().strip()
        headers = []
        while (header := self.rfile.readline().decode().strip()):
            headers.append(header)
        self.server.asked.append(line)
        self.server.authorizations += [h.split(": ", 1)[1] for h in headers if h.lower().startswith("proxy-authorization:")]
        method, target, _ = line.split(" ")
        if method == "CONNECT":
            host, port = target.rsplit(":", 1)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            path = None
        else:
            host, _, path = target.removeprefix("http://").partition("/")
            host, port = host.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as far:
            if path is not None:
                kept = [h for h in headers if not h.lower().startswith(("proxy-", "connection:"))]
                far.sendall("\r\n".join([f"{method} /{path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            self.pump(far)

    def pump(self, far):
        # What was read ahead of the head belongs to the far side.
        ahead = self.rfile.peek() if select.select([self.connection], [], [], 0)[0] or self.rfile.peek(0) else b""
        far.sendall(ahead)
        sides = {self.connection: far, far: self.connection}
        while True:
            for side in select.select(list(sides), [], [], 20)[0] or [None]:
                data = side.recv(65536) if side else b""
                if not data:
                    return
                sides[side].sendall(data)


@pytest.fixture(name="proxy")
def fixture_proxy():
    with ForwardProxy() as proxy:
        yield proxy


@pytest.fixture(name="tls_files", scope="module")
def fixture_tls_files(tmp_path_factory):
    return certificate(str(tmp_path_factory.mktemp("tls")), "fake-xray")


@contextlib.contextmanager
def far_side(tls=None):
    with FakeXray(keys=[Key(*KEY)], tls=tls) as fake:
        yield fake
        assert not fake.problems, fake.problems


def deliver(m, xray):
    """A segment and a sampling call, both of which must arrive."""
    document = segment()
    m.send(document)
    wait_for(lambda: document.decode() in xray.documents, lambda: f"the segment: {m.log[-1500:]}")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", m.port, timeout=20)) as sdk:
        sdk.request("POST", "/GetSamplingRules", b"{}", {"Content-Type": "application/json"})
        assert sdk.getresponse().status == 200


def agent(folder, xray, environment=None, **backend):
    return Mobula(folder, {"aws": {"type": "xray", "region": xray.region, "endpoint": xray.url, "telemetry": "off", **backend}},
                  environment=environment)


def test_plain_calls_ask_the_proxy_for_the_whole_url(tmp_path, proxy):
    with far_side() as xray, agent(tmp_path, xray, http_proxy=proxy.url.replace("//", "//me:hunter2@")) as m:
        deliver(m, xray)
        assert f"POST {xray.url}/TraceSegments HTTP/1.1" in proxy.asked
        assert f"POST {xray.url}/GetSamplingRules HTTP/1.1" in proxy.asked
        assert set(proxy.authorizations) == {"Basic bWU6aHVudGVyMg=="}
        assert "hunter2" not in m.log
        m.stop()


def test_the_variable_counts_too(tmp_path, proxy):
    with far_side() as xray, agent(tmp_path, xray, {"HTTPS_PROXY": proxy.url}) as m:
        deliver(m, xray)
        assert f"POST {xray.url}/TraceSegments HTTP/1.1" in proxy.asked
        m.stop()


def test_tls_goes_through_a_tunnel(tmp_path, proxy, tls_files):
    with far_side(tls_files) as xray, agent(tmp_path, xray, http_proxy=proxy.url, tls={"ca": tls_files[0]}) as m:
        deliver(m, xray)
        assert set(proxy.asked) == {"CONNECT 127.0.0.1:%s HTTP/1.1" % xray.url.rsplit(":", 1)[1]}
        m.stop()


def test_no_proxy_leads_past_it(tmp_path, proxy):
    with far_side() as xray, agent(tmp_path, xray, {"NO_PROXY": "10.0.0.0/8,127.0.0.1"}, http_proxy=proxy.url) as m:
        deliver(m, xray)
        assert not proxy.asked
        m.stop()


def test_a_proxy_that_is_away_is_named(tmp_path):
    with far_side() as xray, agent(tmp_path, xray, http_proxy="http://127.0.0.1:9") as m:
        m.send(segment())
        wait_for(lambda: "127.0.0.1:9" in m.get("/readyz")[1], lambda: m.get("/readyz")[1])


def test_a_certificate_nobody_vouches_for_is_refused(tmp_path, tls_files):
    with far_side(tls_files) as xray, agent(tmp_path, xray) as m:
        m.send(segment())
        wait_for(lambda: "tls_verify" in m.get("/readyz")[1], lambda: m.get("/readyz")[1])
        assert not xray.documents


@pytest.mark.parametrize("environment,tls", [({}, {"verify": False}), ({"AWS_CA_BUNDLE": "CERT"}, {})], ids=["unchecked", "bundle"])
def test_unless_told_to_trust_it(tmp_path, tls_files, environment, tls):
    environment = {name: value.replace("CERT", tls_files[0]) for name, value in environment.items()}
    with far_side(tls_files) as xray, agent(tmp_path, xray, environment, **({"tls": tls} if tls else {})) as m:
        deliver(m, xray)
        m.stop()
