# JSON nested 1,000,000 deep, as frame and as returned value
# pass: decoder depth limit; no stack overflow in the host
n = 1000000
done("deep_json")
cases([b"[" * n + b"]" * n + b"\n", b'{"a":' * n + b"1" + b"}" * n + b"\n",
       b'{"type":"done","result":' + b"[" * n + b"]" * n + b"}\n",
       b'{"type":"call","id":1,"server":"allowed","tool":"t","arguments":' + b'{"a":' * n + b"1" + b"}" * n + b"}\n",
       b""])
x = []
for _ in range(100000): x = [x]
x
