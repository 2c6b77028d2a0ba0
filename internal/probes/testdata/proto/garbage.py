# random bytes and half frames on every channel
# pass: host ends the run with a protocol error or ignores; other sessions unaffected; nothing echoed raw to the MCP client
done("garbage")
cases([os.urandom(4096), b"{\n{\n}\n[[[[\n\"\n", b"\x00" * 4096 + b"\n", b"\n", b"null\n", b"[]\n", b"{}\n", b'{"type":"call"}\n', b'{"type":"done"} {"type":"done"}\n'])
