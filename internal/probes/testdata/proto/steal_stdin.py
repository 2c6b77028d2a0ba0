# read everything waiting on stdin and other inbound channels: other runs' code, replies, secrets?
# pass: nothing beyond this run's own frames
import select
got = b""
for fd in chans():
    while select.select([fd], [], [], 0.3)[0]:
        try: b = os.read(fd, 65536)
        except OSError: break
        if not b: break
        got += b
print("PROBE proto.steal_stdin %s %d bytes %r" % ("ESCAPED" if b"secret" in got.lower() or b"canary" in got else "BLOCKED", len(got), got[:80]), flush=True)
