"""The admin endpoint elsewhere than on loopback: the token, TLS, client certificates, and what stays open."""
import http.client
import json
import signal
import ssl
import subprocess

import pytest
from certificate import certificate
from mobula import BINARY, Mobula, segment, wait_for

OUT = {"out": {"type": "file", "path": "out.jsonl"}}
TOKEN = "not-a-real-token-0001"
OPEN = ("/healthz", "/readyz", "/metrics")


def get(port, path, headers=None, tls=None):
    """(status, headers, body); over TLS with `tls`, a context."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=tls)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def client(authority, shown=None):
    """A context that trusts `authority` and shows a certificate of its own, by the paths of it and of its key."""
    context = ssl.create_default_context(cafile=authority)
    if shown:
        context.load_cert_chain(*shown)
    return context


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_without_a_key_other_addresses_show_only_what_is_for_all(tmp_path):
    with Mobula(tmp_path, OUT, start=False) as m:
        m.config["admin"] = {"address": f"0.0.0.0:{m.admin}"}
        m.write_config()
        m.start()
        for path in OPEN:
            assert get(m.admin, path)[0] == 200, path
        for path in ("/ledger", "/", "/secret"):
            status, _, body = get(m.admin, path, bearer(TOKEN))
            assert status == 403 and "admin.token" in body, (path, status, body)
        assert wait_for(lambda: m.events("admin_refused"), "the log line")[0]["source"].startswith("127.0.0.1:")
        m.process.send_signal(signal.SIGTERM)
        assert m.process.wait(30) == 0


def test_no_name_of_elsewhere_reaches_a_page_on_loopback(tmp_path):
    with Mobula(tmp_path, OUT) as m:
        for host in (f"127.0.0.1:{m.admin}", f"localhost:{m.admin}"):
            assert get(m.admin, "/ledger", {"Host": host})[0] == 200
        status, _, body = get(m.admin, "/ledger", {"Host": f"rebound.example:{m.admin}"})
        assert status == 403 and "datagrams" not in body, (status, body)
        assert get(m.admin, "/metrics", {"Host": "rebound.example"})[0] == 200
        m.stop()


def test_a_token_opens_the_rest(tmp_path):
    token_path = tmp_path / "token"
    token_path.write_text(TOKEN + "\n", encoding="ascii")
    with Mobula(tmp_path, OUT, start=False) as m:
        m.config["admin"] = {"address": f":{m.admin}", "token": f"${{file:{token_path}}}"}
        m.write_config()
        m.start()
        m.send(segment())
        for path in OPEN:
            assert get(m.admin, path)[0] == 200, path
        status, headers, _ = get(m.admin, "/ledger")
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="mobula"')
        status, headers, _ = get(m.admin, "/ledger", bearer(TOKEN[:-1]))
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="mobula", error="invalid_token"')
        status, _, body = get(m.admin, "/ledger", {**bearer(TOKEN), "Host": "agent.example"})
        assert status == 200 and '"datagrams"' in body
        # It goes over plain HTTP, which is said at the start, and the secret is said nowhere.
        assert any("in the clear" in line["message"] for line in m.events("config")), m.log
        m.process.send_signal(signal.SIGTERM)
        assert m.process.wait(30) == 0
        assert TOKEN not in m.log


def test_a_token_is_printed_nowhere(tmp_path):
    flags = ["--backends.out.type=null", f"--admin.token={TOKEN}"]
    for command in (["check", *flags], ["config", "print", *flags], ["config", "print", "--json", *flags]):
        done = subprocess.run([BINARY, *command], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
        assert TOKEN not in done.stdout + done.stderr, done
    wrong = subprocess.run([BINARY, "check", "--backends.out.type=null", "--admin.token=too/short!"], capture_output=True,
                           text=True, timeout=60, check=False, cwd=tmp_path)
    assert wrong.returncode == 1 and "too/short" not in wrong.stderr and "16 to 1024" in wrong.stderr, wrong


def health(*args):
    return subprocess.run([BINARY, "health", *args], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_over_tls_probes_need_no_certificate_and_the_rest_does(tmp_path):
    cert, key = certificate(tmp_path, "server")
    friend, stranger = certificate(tmp_path, "friend"), certificate(tmp_path, "stranger")
    with Mobula(tmp_path, OUT, start=False) as m:
        m.config["admin"] = {"address": f"127.0.0.1:{m.admin}", "tls": {"cert": cert, "key": key, "client_ca": friend[0]}}
        m.write_config()
        m.tls = client(cert, friend)
        m.start()
        for path in OPEN:
            assert get(m.admin, path, tls=client(cert))[0] == 200, path
        assert get(m.admin, "/ledger", tls=client(cert))[0] == 403
        assert get(m.admin, "/ledger", bearer(TOKEN), tls=client(cert))[0] == 403
        assert get(m.admin, "/ledger", tls=client(cert, friend))[0] == 200
        with pytest.raises(OSError):
            get(m.admin, "/ledger", tls=client(cert, stranger))
        # Neither plain HTTP nor an old protocol.
        assert get(m.admin, "/healthz")[0] == 400
        old = client(cert)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.raises(OSError):
            get(m.admin, "/healthz", tls=old)
        # The probe of images without a shell.
        address = f"127.0.0.1:{m.admin}"
        assert health("--address", address, "--tls", "--ready").stdout == "ready\n"
        assert health("--address", address, "--ca", cert).stdout == "ok\n"
        assert health("--address", address, "--ca", stranger[0]).returncode == 1
        m.stop()


def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(tmp_path):
    cert, key = certificate(tmp_path, "server")

    def shown():
        return ssl.get_server_certificate(("127.0.0.1", m.admin), timeout=20)

    with Mobula(tmp_path, OUT, start=False) as m:
        m.config["admin"] = {"address": f"127.0.0.1:{m.admin}", "token": TOKEN, "tls": {"cert": cert, "key": key}}
        m.write_config()
        m.tls, m.token = client(cert), TOKEN
        m.start()
        first = shown()
        with open(key, "w", encoding="ascii") as f:
            f.write("nonsense")
        m.process.send_signal(signal.SIGHUP)
        wait_for(lambda: any(line["level"] == "error" for line in m.events("admin_certificate")), "the error")
        assert shown() == first
        certificate(tmp_path, "server")
        m.process.send_signal(signal.SIGHUP)
        wait_for(lambda: shown() != first, "the new certificate")
        second = shown()
        # And without a signal, as a volume of Kubernetes changes.
        certificate(tmp_path, "server")
        wait_for(lambda: shown() != second, "the third certificate", 25)
        m.tls = client(cert)
        assert m.get("/ledger")[0] == 200
        m.stop()


@pytest.mark.parametrize("missing", ["cert", "key", "client_ca"])
def test_a_file_that_is_missing_ends_the_start(tmp_path, missing):
    cert, key = certificate(tmp_path, "server")
    tls = {"cert": cert, "key": key, "client_ca": cert, missing: "/nonexistent/file.pem"}
    config = {"backends": OUT, "receivers": {"udp": {"address": "127.0.0.1:0"}}, "admin": {"address": "127.0.0.1:0", "tls": tls}}
    path = tmp_path / "mobula.yaml"
    path.write_text(json.dumps(config), encoding="ascii")
    done = subprocess.run([BINARY, "run", "-c", str(path)], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1 and "admin.tls: cannot read /nonexistent/file.pem" in done.stderr, done
