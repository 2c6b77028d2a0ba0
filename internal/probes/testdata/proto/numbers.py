# NaN, Infinity, 1e999999, 10**200000, -0, 2**63, 0.1+0.2 in frames and in the result
# pass: frames rejected; results encoded without breaking JSON
done("numbers")
cases([b'{"type":"done","result":NaN}\n', b'{"type":"done","result":-Infinity}\n', b'{"type":"call","id":1e999999,"server":"allowed","tool":"t","arguments":{}}\n',
       b'{"type":"call","id":' + b"9" * 200000 + b',"server":"allowed","tool":"t","arguments":{}}\n',
       b'{"type":"call","id":1,"server":"allowed","tool":"t","arguments":{"x":NaN}}\n',
       b'{"type":"done","result":01}\n', b'{"type":"done","result":+1}\n', b'{"type":"done","result":0x10}\n', b""])
{"nan": float("nan"), "inf": float("inf"), "big": 2 ** 200, "negative": -0.0, "huge": 10 ** 20000, "sum": 0.1 + 0.2}
