"""An HTTP server instrumented with the X-Ray SDK for Python; the sampling rules come from the agent. Prints its port,
ends with its standard input."""
import os
import sys
import threading

from aws_xray_sdk.core import xray_recorder
from aws_xray_sdk.ext.flask.middleware import XRayMiddleware
from flask import Flask
from werkzeug.serving import make_server

app = Flask("server")
xray_recorder.configure(service="python.example.com", context_missing="RUNTIME_ERROR")
XRayMiddleware(app, xray_recorder)


@app.route("/<path:_>")
def page(_):
    with xray_recorder.in_subsegment("work"):
        return "done\n"


server = make_server("127.0.0.1", 0, app)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)  # the SDK's pollers may be within a request
