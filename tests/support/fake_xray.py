#!/usr/bin/env python3
"""A strict stand-in for the AWS X-Ray API on loopback: it takes PutTraceSegments, checks every signature and
body, keeps the documents, answers for sampling rules and targets, and fails in whatever way a test asks for.

As a library:
    with FakeXray(keys=[Key("AKID", "secret")], region="us-west-2") as xray:
        ... xray.url ...; xray.fail(status=503); xray.heal(); xray.next({"reset": True}, None)
        xray.documents, xray.requests, xray.problems
    xray.sampling.change([{"RuleName": "checkout", "URLPath": "/checkout*", "FixedRate": 0, "ReservoirSize": 0}])
    xray.sampling.statistics
As a program (prints "listening on http://127.0.0.1:PORT", ends with a pipe on its standard input, or SIGTERM):
    fake_xray.py [--port N] [--region R] [--key ID:SECRET[:TOKEN]]... [--latency S] [--judge] [--tls CERT KEY]
                 [--forget]
A program is steered over HTTP, unsigned:
    POST /control/next   [fault or null, ...]   answers of the next calls; null is the ordinary one
    POST /control/fail   fault                  answer of every call until
    POST /control/heal
    POST /control/refuse {"contains": text, "code": code, "times": n}   documents with `text` are unprocessed
    GET  /control/stats, /control/documents, /control/requests

A fault is a dict of: status, code, message, headers (dict), delay (s), hang, reset, cut (bytes of the body
before the connection closes), raw (text instead of an answer), body (text), retry_after, date_offset (s the
Date header is off), xml (answer errors as XML).
"""
import argparse
import asyncio
import collections
import datetime
import email.utils
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import ssl
import stat
import struct
import threading
import time
import urllib.parse

DOCUMENTS_MAX = 50
BODY_BYTES_MAX = 8 << 20
CLOCK_TOLERANCE = 300


class Key:
    """An access key the service knows; `token` for temporary ones."""

    def __init__(self, id="AKIDEXAMPLE", secret="example/secret+key", token=None, expired=False):
        self.id, self.secret, self.token, self.expired = id, secret, token, expired

    def environment(self):
        env = {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return dict(env, AWS_SESSION_TOKEN=self.token) if self.token else env


class Refused(Exception):
    """A request that AWS would answer with an error."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class Request:
    """One request to the API as it arrived."""

    def __init__(self, method, target, headers, body, connection):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.connection, self.time = connection, time.time()
        self.documents, self.status, self.key_id = [], None, None

    def header(self, name):
        name = name.lower()
        return next((v for k, v in self.headers if k.lower() == name), None)


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _uri(text, safe=""):
    return urllib.parse.quote(text, safe="-_.~" + safe)


class SignatureCheck:
    """Verifies SigV4 from the received bytes alone. Signing keys are remembered: HMAC is slow in Python."""

    FORM = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request, ?"
                      r"SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})")

    def __init__(self, keys, region, service="xray"):
        self.keys, self.region, self.service = {k.id: k for k in keys}, region, service
        self.signing_keys = {}

    def __call__(self, request, now):
        """Raises Refused unless the signature is right; returns the key's id."""
        header = request.header("Authorization")
        if header is None:
            raise Refused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        form = self.FORM.fullmatch(header)
        if not form:
            raise Refused(400, "IncompleteSignatureException", "not a SigV4 header: %r" % header)
        key_id, day, region, service, names, signature = form.groups()
        key = self.keys.get(key_id)
        if key is None or (request.header("X-Amz-Security-Token") or None) != key.token:
            raise Refused(403, "UnrecognizedClientException", "unknown key or token")

        def wrong(text):
            raise Refused(403, "InvalidSignatureException", text)

        if (region, service) != (self.region, self.service):
            wrong("scope %s/%s, expected %s/%s" % (region, service, self.region, self.service))
        stamp = request.header("X-Amz-Date") or ""
        try:
            when = datetime.datetime.strptime(stamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        except ValueError:
            wrong("X-Amz-Date %r" % stamp)
        if stamp[:8] != day:
            wrong("X-Amz-Date %s is not of the scope's day" % stamp)
        if abs(when - now) > CLOCK_TOLERANCE:
            wrong("Signature expired or not yet current: %s" % stamp)

        names = names.split(";")
        values = collections.defaultdict(list)
        for name, value in request.headers:
            values[name.lower()].append(" ".join(value.split()))
        if names != sorted(set(names)) or any(n != n.lower() for n in names):
            wrong("SignedHeaders not sorted or not lower case")
        needed = {"host"} | {n for n in values if n.startswith("x-amz-") or n == "content-type"}
        if needed - set(names):
            wrong("not signed: %s" % sorted(needed - set(names)))
        if set(names) - set(values):
            wrong("signed but not sent: %s" % sorted(set(names) - set(values)))
        path, _, query = request.target.partition("?")
        pairs = sorted((_uri(k), _uri(v)) for k, v in
                       urllib.parse.parse_qsl(query, keep_blank_values=True))
        canonical = "\n".join(
            [request.method, _uri(path, "/"), "&".join("%s=%s" % pair for pair in pairs)]
            + ["%s:%s" % (n, ",".join(values[n])) for n in names]
            + ["", ";".join(names), hashlib.sha256(request.body).hexdigest()])
        scope = "%s/%s/%s/aws4_request" % (day, region, service)
        text = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (stamp, scope, hashlib.sha256(canonical.encode()).hexdigest())
        right = _hmac(self.signing_key(key.secret, scope), text).hex()
        if not hmac.compare_digest(right, signature):
            wrong("the signature does not match; canonical request: %r" % canonical)
        if key.expired:
            raise Refused(403, "ExpiredTokenException", "The security token included in the request is expired")
        return key_id

    def signing_key(self, secret, scope):
        known = self.signing_keys.get((secret, scope))
        if known is None:
            known = b"AWS4" + secret.encode()
            for part in scope.split("/"):
                known = _hmac(known, part)
            self.signing_keys[(secret, scope)] = known
        return known


def judge(text):
    """The code X-Ray gives a document, in its order of checks, or None; and the id it answers with."""
    if text[:3] in ("T1S", "T1U"):
        return None, None
    try:
        d = json.loads(text)
    except ValueError:
        d = None
    if not isinstance(d, dict):
        return "ParseError", None
    id_, hex16 = d.get("id"), re.compile("[0-9a-fA-F]{16}")
    subsegment = d.get("type") == "subsegment"
    if "type" in d and d["type"] not in ("segment", "subsegment"):
        return "UnknownType", id_
    if id_ is None:
        return "MissingId", None
    if not isinstance(id_, str) or not hex16.fullmatch(id_):
        return "InvalidId", id_
    if not d.get("name"):
        return "MissingName", id_
    if d.get("trace_id") is None:
        return "MissingTraceId", id_
    if not re.fullmatch(r"1-[0-9a-f]{8}-[0-9a-f]{24}|[0-9a-f]{32}", str(d["trace_id"]), re.I):
        return "InvalidTraceId", id_
    if d.get("start_time") is None:
        return "MissingStartTime", id_
    if d.get("in_progress") is True and d.get("end_time") is not None:
        return "InProgress%sHasEndTime" % ("Subsegment" if subsegment else "Segment"), id_
    if d.get("end_time") is None and d.get("in_progress") is not True:
        return "MissingEndTime", id_
    if subsegment and d.get("parent_id") is None:
        return "MissingParentId", id_
    if subsegment and not hex16.fullmatch(str(d["parent_id"])):
        return "InvalidParentId", id_
    return None, id_


class Sampling:
    """Sampling rules and targets. `rules` are dicts of what differs from the Default rule; that one comes last."""

    DEFAULT = {"RuleName": "Default", "Priority": 10000, "FixedRate": 0.05, "ReservoirSize": 1, "ServiceName": "*", "ServiceType": "*",
               "Host": "*", "HTTPMethod": "*", "URLPath": "*", "ResourceARN": "*", "Version": 1, "Attributes": {}}
    STATISTICS = {"RuleName": str, "ClientID": str, "Timestamp": (int, float), "RequestCount": int, "SampledCount": int, "BorrowCount": int}
    STATISTICS_MAX = 25
    PATHS = ("/GetSamplingRules", "/SamplingTargets", "/SamplingStatisticSummaries")

    def __init__(self, problem):
        self.problem = problem
        self.rules, self.modified = [], time.time() - 60
        self.interval = 10
        self.statistics = []  # every document that was reported

    def change(self, rules):
        self.rules, self.modified = list(rules), time.time()

    def answer(self, path, body):
        try:
            given = json.loads(body or b"{}")
        except ValueError as e:
            raise Refused(400, "SerializationException", "the body is no JSON: %s" % e)
        if not isinstance(given, dict):
            raise Refused(400, "SerializationException", "the body is no object")
        if path == "/SamplingTargets":
            return self._targets(given)
        if given.get("NextToken") is not None or set(given) - {"NextToken"}:
            raise Refused(400, "InvalidRequestException", "members %s" % sorted(given))
        if path == "/SamplingStatisticSummaries":
            return {"NextToken": None, "SamplingStatisticSummaries": []}
        rules = [{**self.DEFAULT, "Priority": 5000, **rule} for rule in self.rules] + [self.DEFAULT]
        return {"NextToken": None, "SamplingRuleRecords": [
            {"CreatedAt": 0.0, "ModifiedAt": self.modified, "SamplingRule":
             {"RuleARN": "arn:aws:xray:us-west-2:123456789012:sampling-rule/" + rule["RuleName"], **rule}} for rule in rules]}

    def _targets(self, given):
        reported = given.get("SamplingStatisticsDocuments")
        if not isinstance(reported, list) or not 1 <= len(reported) <= self.STATISTICS_MAX:
            raise Refused(400, "InvalidRequestException", "SamplingStatisticsDocuments")
        known = {rule["RuleName"]: {**self.DEFAULT, **rule} for rule in [*self.rules, self.DEFAULT]}
        targets, unprocessed = [], []
        for document in reported:
            wrong = [name for name, kind in self.STATISTICS.items() if not isinstance(document.get(name), kind)]
            if wrong or set(document) - set(self.STATISTICS) or not re.fullmatch("[0-9a-fA-F]{24}", document["ClientID"]):
                self.problem("statistics %s" % document)
            rule = known.get(document.get("RuleName"))
            if rule is None:
                unprocessed.append({"RuleName": document.get("RuleName"), "ErrorCode": "400", "Message": "Unknown rule"})
                continue
            self.statistics.append(document)
            targets.append({"RuleName": rule["RuleName"], "FixedRate": rule["FixedRate"], "ReservoirQuota": rule["ReservoirSize"],
                            "ReservoirQuotaTTL": time.time() + 300, "Interval": self.interval})
        return {"SamplingTargetDocuments": targets, "LastRuleModification": self.modified, "UnprocessedStatistics": unprocessed,
                "UnprocessedBoostStatistics": []}


class FakeXray:
    ARN = r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:\d{12}:\S+"
    TELEMETRY = {"Timestamp", "SegmentsReceivedCount", "SegmentsSentCount", "SegmentsSpilloverCount", "SegmentsRejectedCount",
                 "BackendConnectionErrors"}
    TELEMETRY_ERRORS = {"TimeoutCount", "ConnectionRefusedCount", "HTTPCode4XXCount", "HTTPCode5XXCount", "UnknownHostCount", "OtherCount"}

    def __init__(self, keys=None, region="us-west-2", port=0, latency=0.0, judge_documents=False,
                 tls=None, keep=True):
        self.region, self.port, self.latency, self.tls, self.keep = region, port, latency, tls, keep
        self.check = SignatureCheck(keys or [Key()], region)
        self.judge_documents = judge_documents
        self.lock = threading.Lock()
        self.documents, self.requests, self.problems = [], [], []
        self.document_count = self.request_count = self.connection_count = self.body_bytes = 0
        self.active = self.busiest = 0
        self.statuses = collections.Counter()
        self.script, self.fault, self.refusals = collections.deque(), None, []
        self.sampling = Sampling(self._problem)
        self.thread = self.loop = self.stopping = None

    # --- steering: any thread ---------------------------------------------------------------------
    def next(self, *faults):
        with self.lock:
            self.script.extend(faults)

    def fail(self, **fault):
        with self.lock:
            self.fault = fault

    def heal(self):
        with self.lock:
            self.fault = None
        self.loop.call_soon_threadsafe(self._let_go)

    def refuse(self, contains, code, times=-1):
        """Documents with the text `contains` are unprocessed with `code`, that many times."""
        with self.lock:
            self.refusals.append({"contains": contains, "code": code, "times": times})

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    def stats(self):
        with self.lock:
            return {"requests": self.request_count, "documents": self.document_count,
                    "body_bytes": self.body_bytes, "connections": self.connection_count,
                    "busiest": self.busiest, "statuses": {str(k): v for k, v in self.statuses.items()},
                    "scripted": len(self.script), "problems": self.problems[:100]}

    # --- life -------------------------------------------------------------------------------------
    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens, on a thread of its own."""
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self.thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fake X-Ray did not start")

    def stop(self):
        if self.thread is None:
            return
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)
        self.thread = None

    async def serve(self, ready):
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        self.patience, self.tasks = asyncio.Event(), set()
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, ssl=context,
                                            limit=1 << 20, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self.stopping.wait()
        server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _let_go(self):
        self.patience.set()
        self.patience = asyncio.Event()

    # --- one connection ---------------------------------------------------------------------------
    async def _connection(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        number = self.connection_count = self.connection_count + 1
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._request(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _request(self, reader, writer, number):
        """Serves one request; False when the connection is over."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        except asyncio.IncompleteReadError as e:
            if e.partial:
                self._problem("the connection ended within a request's head")
            return False
        method, target, version = head[0].split(" ")
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in head[1:]]
        request = Request(method, target, headers, b"", number)
        size = request.header("Content-Length") or "0"
        if version != "HTTP/1.1" or not size.isdigit() or int(size) > BODY_BYTES_MAX \
                or request.header("Transfer-Encoding"):
            self._problem("strange request: %r" % head)
            return False
        request.body = await reader.readexactly(int(size))
        if target.startswith("/control/"):
            answer = self._control(request)
            writer.write(self._response(200, answer))
            await writer.drain()
            return True
        self.active += 1
        self.busiest = max(self.busiest, self.active)
        try:
            return await self._api(request, writer)
        finally:
            self.active -= 1

    async def _api(self, request, writer):
        with self.lock:
            self.request_count += 1
            self.body_bytes += len(request.body)
            if self.keep:
                self.requests.append(request)
            fault = self.script.popleft() if self.script else self.fault
        fault = fault or {}
        if self.latency or fault.get("delay"):
            await asyncio.sleep(max(self.latency, fault.get("delay", 0)))
        if fault.get("hang"):
            await self.patience.wait()
            return False
        if fault.get("reset"):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if "raw" in fault:
            writer.write(fault["raw"].encode("latin-1"))
            await writer.drain()
            return False
        answer = self._answer(request, fault)
        if "cut" in fault:
            end = answer.index(b"\r\n\r\n") + 4 + fault["cut"]
            writer.write(answer[:end])
            await writer.drain()
            return False
        writer.write(answer)
        await writer.drain()
        return (request.header("Connection") or "").lower() != "close"

    def _problem(self, text):
        with self.lock:
            self.problems.append(text)

    # --- answers ----------------------------------------------------------------------------------
    def _response(self, status, body, headers=None, date_offset=0):
        if not isinstance(body, str):
            body = json.dumps(body)
        body = body.encode()
        lines = {"Date": email.utils.formatdate(time.time() + date_offset, usegmt=True),
                 "Content-Type": "application/json", "x-amzn-RequestId": "00000000-fake",
                 "Content-Length": str(len(body)), **(headers or {})}
        head = "HTTP/1.1 %d Word\r\n%s\r\n" % (status, "".join("%s: %s\r\n" % l for l in lines.items()))
        return head.encode("latin-1") + body

    def _answer(self, request, fault):
        headers = dict(fault.get("headers", {}))
        if "retry_after" in fault:
            headers["Retry-After"] = str(fault["retry_after"])
        offset = fault.get("date_offset", 0)
        status, code = fault.get("status", 200), fault.get("code")
        message = fault.get("message", "scripted by a test")
        try:
            if request.target == "/TelemetryRecords" and request.method == "POST":
                request.key_id = self.check(request, time.time() + offset)
                self._telemetry(request)
                body = {}
            elif request.target in Sampling.PATHS and request.method == "POST":
                request.key_id = self.check(request, time.time() + offset)
                body = self.sampling.answer(request.target, request.body)
            else:
                accepted, unprocessed = self._put(request, offset)
                body = {"UnprocessedTraceSegments": unprocessed}
        except Refused as e:
            self._problem("%s: %s" % (e.code, e))
            status, code, message, accepted = e.status, e.code, str(e), []
        if status != 200 or code:
            if code:
                headers["x-amzn-ErrorType"] = code
            body = {"__type": code or "", "Message": message}
            if fault.get("xml"):
                headers.pop("x-amzn-ErrorType", None)
                headers["Content-Type"] = "text/xml"
                body = "<ErrorResponse><Error><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>" \
                    % (code, message)
        elif request.target.endswith("/TraceSegments"):
            with self.lock:
                self.document_count += len(accepted)
                if self.keep:
                    self.documents.extend(accepted)
        request.status = status
        with self.lock:
            self.statuses[status] += 1
        return self._response(status, fault.get("body", body), headers, offset)

    def _telemetry(self, request):
        """Checks a PutTelemetryRecords call."""
        try:
            body = json.loads(request.body)
            records = body["TelemetryRecords"]
        except (ValueError, KeyError, TypeError) as e:
            raise Refused(400, "SerializationException", "no telemetry: %r" % e)
        arn = body.get("ResourceARN", "arn:aws:ec2:us-west-2:123456789012:instance/i-0")
        if set(body) - {"EC2InstanceId", "Hostname", "ResourceARN", "TelemetryRecords"} or not re.fullmatch(self.ARN, arn):
            raise Refused(400, "InvalidRequestException", "members %s" % body)
        if not 1 <= len(records) <= 10:
            raise Refused(400, "InvalidRequestException", "%d records" % len(records))
        for record in records:
            errors = record.get("BackendConnectionErrors", {})
            counts = [*errors.values(), *(v for k, v in record.items() if k.endswith("Count"))]
            if set(record) != self.TELEMETRY or set(errors) != self.TELEMETRY_ERRORS \
                    or any(type(count) is not int or count < 0 for count in counts) \
                    or not 1.5e9 < record["Timestamp"] < time.time() + CLOCK_TOLERANCE:
                self._problem("telemetry record %s" % record)

    def _put(self, request, offset):
        """Checks a PutTraceSegments call: (documents taken, entries of unprocessed ones)."""
        if request.method != "POST" or not request.target.endswith("/TraceSegments"):
            raise Refused(404, "UnknownOperationException", "%s %s" % (request.method, request.target))
        request.key_id = self.check(request, time.time() + offset)
        if (request.header("Content-Type") or "").split(";")[0] != "application/json":
            self._problem("Content-Type %r" % request.header("Content-Type"))
        if not re.fullmatch(r"\d+\.\d{9}", request.header("X-Amzn-Xray-Timestamp") or ""):
            self._problem("X-Amzn-Xray-Timestamp %r" % request.header("X-Amzn-Xray-Timestamp"))
        try:
            body = json.loads(request.body.decode("utf-8"))
        except ValueError as e:
            raise Refused(400, "SerializationException", "the body is no JSON: %s" % e)
        documents = body.get("TraceSegmentDocuments") if isinstance(body, dict) else None
        if not isinstance(documents, list) or not all(isinstance(d, str) for d in documents):
            raise Refused(400, "SerializationException", "TraceSegmentDocuments is no list of strings")
        if list(body) != ["TraceSegmentDocuments"]:
            self._problem("members of the body: %s" % list(body))
        if not documents:
            raise Refused(400, "InvalidRequestException", "Segments can not be empty")
        if len(documents) > DOCUMENTS_MAX:
            self._problem("%d documents in one call" % len(documents))
        request.documents = documents
        if not self.judge_documents and not self.refusals:
            return documents, []
        accepted, unprocessed = [], []
        for document in documents:
            code, id_ = self._refusal(document)
            if code is None:
                accepted.append(document)
            else:
                unprocessed.append({"Id": id_, "ErrorCode": code,
                                    "Message": "Invalid segment. ErrorCode: %s" % code})
        return accepted, unprocessed

    def _refusal(self, document):
        code, id_ = judge(document)
        with self.lock:
            for rule in self.refusals:
                if rule["contains"] in document and rule["times"] != 0:
                    rule["times"] -= 1
                    return rule["code"], id_
        return (code, id_) if self.judge_documents else (None, None)

    # --- control over HTTP ------------------------------------------------------------------------
    def _control(self, request):
        what = (request.method, request.target[len("/control/"):])
        given = json.loads(request.body or b"null")
        if what == ("GET", "stats"):
            return self.stats()
        if what == ("GET", "documents"):
            with self.lock:
                return list(self.documents)
        if what == ("GET", "requests"):
            with self.lock:
                return [{"method": r.method, "target": r.target, "headers": r.headers, "status": r.status,
                         "documents": len(r.documents), "connection": r.connection} for r in self.requests]
        if what == ("POST", "next"):
            self.next(*given)
        elif what == ("POST", "fail"):
            self.fail(**given)
        elif what == ("POST", "heal"):
            self.heal()
        elif what == ("POST", "refuse"):
            self.refuse(**given)
        else:
            return {"error": "no such control: %s %s" % what}
        return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--key", action="append", metavar="ID:SECRET[:TOKEN]",
                        help="default AKIDEXAMPLE:example/secret+key")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--judge", action="store_true", help="refuse documents as X-Ray would")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--forget", action="store_true", help="count documents, do not keep them")
    args = parser.parse_args()
    fake = FakeXray([Key(*k.split(":", 2)) for k in args.key or []], args.region, args.port, args.latency,
                    args.judge, args.tls, not args.forget)

    async def run():
        loop = asyncio.get_running_loop()

        def ready():
            print("listening on %s" % fake.url, flush=True)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, fake.stopping.set)
            # Gone with the test that started it, whatever ended that.
            if stat.S_ISFIFO(os.fstat(0).st_mode):
                loop.add_reader(0, lambda: os.read(0, 4096) or fake.stopping.set())

        await fake.serve(ready)

    asyncio.run(run())


if __name__ == "__main__":
    main()
