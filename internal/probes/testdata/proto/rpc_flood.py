# 100,000 calls without reading one reply
# pass: in-flight cap; host write to a full pipe has a deadline; memory bounded; run ends
done("rpc_flood")
server = "allowed" if CASE == 1 else "unknown"
for k in range(100): send(b"".join(call(1 + k * 1000 + i, server, x="y" * 200) for i in range(1000)), [n for n in chans() if n > 2])
time.sleep(60)
