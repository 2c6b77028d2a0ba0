# call ids: duplicate, negative, float, string, null, object, huge; replay of id 1..50
# pass: each call answered at most once; ids never index host memory unchecked
done("rpc_ids")
raw = lambda id: b'{"type":"call","id":%s,"server":"allowed","tool":"t","arguments":{}}\n' % id
cases([call(v) for v in (-1, 0, 1.5, "1", None, {"a": 1}, [1], True, 2 ** 63, 2 ** 64, "9" * 100000)]
      + [call(1) + call(1), call(2) + call(1), raw(b"1.0"), raw(b"1e0"), raw(b"01"), raw(b"-0"), raw(b""), raw(b"1,\"id\":2"),
         raw(b"0x1"), b"".join(call(v) for v in range(50))])
