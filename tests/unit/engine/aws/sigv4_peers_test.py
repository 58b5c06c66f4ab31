"""Signs random requests with Mobula's signer and with botocore: both must say the same.

Usage: sigv4_peers_test.py SIGV4_TOOL [SEED]
"""
import datetime
import random
import subprocess
import sys
from unittest import mock

try:
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
except ImportError:
    print("botocore is missing: run tools/setup --test")
    sys.exit(77)  # Meson: skipped


def by_botocore(r):
    """The Authorization header of botocore for the request r."""
    url = "http://%s%s" % (r["host"], r["path"]) + ("?" + r["query"] if r["query"] else "")
    request = botocore.awsrequest.AWSRequest(r["method"], url, dict(r["headers"]), r["body"])
    keys = botocore.credentials.Credentials(r["id"], r["secret"], r["token"] or None)
    now = datetime.datetime.fromtimestamp(r["epoch"], datetime.timezone.utc).replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now, create=True):
        botocore.auth.SigV4Auth(keys, r["service"], r["region"]).add_auth(request)
    return request.headers["Authorization"]


def random_request(rng):
    def text(alphabet, most):
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, most)))

    word = "abcXYZ019-._~"
    path = "".join("/" + rng.choice(["TraceSegments", ".", "..", "", text(word + "%+:@", 8)])
                   for _ in range(rng.randint(1, 4)))
    pairs = ["%s=%s" % (text(word, 4), text(word, 4)) for _ in range(rng.randint(0, 3))]
    headers = [("Content-Type", "application/json")] if rng.random() < .7 else []
    for i in range(rng.randint(0, 3)):
        headers.append(("X-Amz-Thing%d" % i, text(word + "  ,=/", 20).strip() or "x"))
    return {
        "host": rng.choice(["127.0.0.1:2000", "xray.eu-west-1.amazonaws.com", "example.com:8443"]),
        "method": rng.choice(["POST", "GET", "PUT"]), "path": path, "query": "&".join(pairs),
        "headers": headers, "body": rng.randbytes(rng.choice([0, 1, 63, 64, 65, 5000])),
        "id": text("ABCDEF0123", 20), "secret": text(word + "+/=", 90),
        "token": text(word + "+/=", 400) if rng.random() < .4 else "",
        "region": rng.choice(["us-east-1", "eu-west-1", "cn-north-1"]),
        "service": rng.choice(["xray", "sts"]), "epoch": rng.randint(0, 4102444800),
    }


def by_mobula(tool, r):
    headers = r["headers"] + [("Host", r["host"])]
    lines = [" ".join([r["region"], r["service"], r["id"], r["secret"], r["token"] or "-",
                       str(r["epoch"]), r["body"].hex() or "-"]),
             " ".join([r["method"], r["path"], r["query"] or "-", str(len(headers))])]
    lines += ["%s: %s" % h for h in headers]
    tool.stdin.write("\n".join(lines) + "\n")
    tool.stdin.flush()
    return tool.stdout.readline().strip()


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 20260101
    rng = random.Random(seed)
    tool = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for i in range(400):
        r = random_request(rng)
        theirs, mine = by_botocore(r), by_mobula(tool, r)
        if theirs != mine:
            print("seed %d, request %d: %r\nbotocore: %s\nMobula:   %s" % (seed, i, r, theirs, mine))
            return 1
    tool.stdin.close()
    return tool.wait(10)


if __name__ == "__main__":
    sys.exit(main())
