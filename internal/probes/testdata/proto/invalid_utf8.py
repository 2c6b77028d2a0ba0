# invalid UTF-8, overlong forms, UTF-16 BOM, lone surrogates, NUL, U+2028 in text and frames
# pass: replaced or escaped; the MCP reply is valid UTF-8 JSON
done("invalid_utf8")
sys.stdout.buffer.write(b"\xff\xfe lone \xed\xa0\x80\n"); sys.stdout.flush()
try: print("\ud800")
except UnicodeError as e: print("surrogate refused")
cases([b"\xff\xfe\xfd\n", b"\xc0\xaf\n", b"\xed\xa0\x80\n", b'\xef\xbb\xbf{"type":"done"}\n', b'{"a":"\\ud800"}\n', b"a\x00b\n",
       "\u2028\u2029\u0085\n".encode(), b'{"type":"done","result":"\xff\xc0\xaf"}\n', b'{"type":"done","result":"\xed\xa0\x80"}\n',
       b'{"type":"call","id":1,"server":"allowed\xff","tool":"t","arguments":{}}\n', b""])
"\ud800 \u2028 \x00"
