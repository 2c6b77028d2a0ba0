# one 256 MiB frame
# pass: host rejects at its frame cap without buffering it (host RSS grows < cap)
done("giant_frame"); c = b"A" * 65536
out = [n for n in chans() if n != 2]
if CASE == 1:  # as a message of parts, each of which is small enough
    for _ in range(4096): send(part("A" * 65536, False))
else:
    send(b'{"type":"done","result":"', out)
    for _ in range(4096): send(c, out)
    send(b'"}\n', out)
