"""Load from a process of its own: blast.py PORT COUNT RATE. Documents hold "n":<number>; prints how many were sent."""
import socket
import sys
import time

port, count, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
head = b'{"format": "json", "version": 1}\n'
pad = b"x" * 560
now = time.time()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", port))
begin, sent = time.monotonic(), 0
while sent < count:
    due = min(count, int((time.monotonic() - begin) * rate) + 1)
    # After a stall it goes on at the pace instead of making up for it.
    if due - sent > 200:
        begin += (due - sent - 200) / rate
        due = sent + 200
    while sent < due:
        s.send(b'%s{"n":%d,"trace_id":"1-%08x-%024x","id":"%016x","name":"load","start_time":%.3f,"end_time":%.3f,"metadata":{"pad":"%s"}}'
               % (head, sent, int(now), sent, sent, now, now + 0.1, pad))
        sent += 1
    time.sleep(0.0005)
print(sent)
