"""Checks the runner's half of frames.jsonl. Arguments: the runner's source, frames.jsonl."""
import json
import os
import sys

source = open(sys.argv[1], encoding="utf-8").read()
assert source.rstrip().endswith("\nserve()")
runner = {"__name__": "<runner>", "compiled": False}
exec(compile(source.rstrip()[: -len("serve()")], "<runner>", "exec"), runner)

r, w = os.pipe()
runner["FRAMES_OUT"] = w
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
        runner["unread"] = frame.encode() + b"\n"
        runner["dispatch"]()
        try:
            assert runner["answer"](got[0], "s", "t") == ok["value"], name
        except runner["MCPError"] as e:
            assert e.message == ok["error"]["message"] and e.type == ok["error"].get("type"), name
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
