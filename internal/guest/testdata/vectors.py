"""Checks the runner's half of frames.jsonl. Arguments: the runner's source, frames.jsonl, modules that shall be missing."""
import os
import sys

sys.modules.update(dict.fromkeys(sys.argv[3:]))
import json

source, *more = open(sys.argv[1], encoding="utf-8", newline="").read().split("\f\n")
assert source.rstrip().endswith("\nserve()")
runner = {"__name__": "<runner>", "loaded": (None, more)}
exec(compile(source.rstrip()[: -len("serve()")], "<runner>", "exec"), runner)

r, w = os.pipe()
in_r, in_w = os.pipe()
runner["FRAMES_OUT"], runner["FRAMES_IN"] = w, in_r
runner["load"](*range(len(more)))
checked = 0
for line in open(sys.argv[2], encoding="utf-8"):
    vector = json.loads(line)
    name, ok = vector["name"], vector.get("ok")
    if ok is None:
        continue
    frame = vector["frame"]
    if frame.startswith('{"type":"run"'):
        code, filename, servers = runner["decode_run"](frame)
        assert code == ok["code"], (name, code)
        assert filename == ok["filename"], (name, filename)
        assert json.loads(servers) == ok.get("servers", []), (name, servers)
    elif frame.startswith('{"type":"return"'):
        got = []
        runner["pending"][ok["id"]] = got.append
        os.write(in_w, frame.encode() + b"\n")
        runner["dispatch"](runner["receive"]())
        try:
            assert runner["parse"](got[0], "s", "t") == ok["value"], name
        except runner["MCPError"] as e:
            assert (e.message, e.type, e.code, e.data) == tuple(map(ok["error"].get, ("message", "type", "code", "data"))), name
    elif "arguments" in ok:
        runner["last_id"] = ok["id"] - 1
        arguments = json.loads(ok["arguments"])
        runner["begin"](ok["server"], ok["tool"], arguments, None)
        want = dict(ok, type="call", arguments=arguments)
        assert json.loads(os.read(r, 1 << 16)) == want, name
    elif "result" in ok and not ok.get("truncated"):
        text, cut = runner["encode_result"](json.loads(ok["result"]))
        assert json.loads(text) == json.loads(ok["result"]) and not cut, name
    else:
        continue
    checked += 1
print(checked)
