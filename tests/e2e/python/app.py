"""An ordinary program instrumented with the X-Ray SDK for Python. Prints the id of every entity it made."""
import json

from aws_xray_sdk.core import patch, xray_recorder
from aws_xray_sdk.core.models import http

xray_recorder.configure(service="orders.example.com", sampling=False, context_missing="RUNTIME_ERROR")
patch(("sqlite3",))
made = []


def note(entity):
    made.append(entity.id)
    return entity


def nested():
    """Four levels, with annotations, metadata, a user and an HTTP part."""
    segment = note(xray_recorder.begin_segment("orders.example.com"))
    segment.set_user("zoë")
    segment.put_http_meta(http.URL, "http://orders.example.com/cart?q=é")
    segment.put_http_meta(http.STATUS, 200)
    for depth in range(4):
        subsegment = note(xray_recorder.begin_subsegment(f"level-{depth}"))
        subsegment.put_annotation("depth", depth)
        subsegment.put_metadata("value", {"text": "漢字 \u2028", "list": [1, None, 2.5]}, "app")
    for _ in range(4):
        xray_recorder.end_subsegment()
    xray_recorder.end_segment()


def exception():
    """Raised at the bottom, handled at the top."""
    note(xray_recorder.begin_segment("orders.example.com"))
    try:
        with xray_recorder.in_subsegment("outer") as outer:
            note(outer)
            with xray_recorder.in_subsegment("inner") as inner:
                note(inner)
                raise ValueError("no such order: 'x'")
    except ValueError:
        pass
    xray_recorder.end_segment()


def streamed():
    """So many subsegments that the SDK sends them ahead of their segment."""
    note(xray_recorder.begin_segment("batch-worker"))
    for i in range(120):
        with xray_recorder.in_subsegment(f"row-{i}") as row:
            note(row)
            with xray_recorder.in_subsegment("store") as store:
                note(store)
    xray_recorder.end_segment()


def database():
    """A library patched by the SDK."""
    import sqlite3

    segment = xray_recorder.begin_segment("inventory")
    note(segment)
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    connection.close()
    made.extend(subsegment.id for subsegment in segment.subsegments)
    xray_recorder.end_segment()


nested()
exception()
streamed()
database()
print(json.dumps(made))
