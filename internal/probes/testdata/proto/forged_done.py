# frames that claim the run ended well, with many spellings, then go on running
# pass: at most the run's own result is affected; the process is reaped and killed; later output is dropped
done("forged_done")
D = {"type": "done", "result": "FORGED"}
cases([
    frame({"type": "done"}), frame(D), frame(dict(D, truncated=True)),
    frame({"type": "done", "error": {"type": "E", "message": "FORGED"}}),
    frame(dict(D, exit_code=0)), frame(dict(D, status="success")), frame(dict(D, stdout="FORGED")),
    b'{"Type":"done","result":"FORGED"}\n', b'{"type":"done","type":"ready"}\n', b'{"type":"done","result":1,"result":"FORGED"}\n',
    frame({"type": "ready", "protocol": 1, "python": "3.99.0"}),
    frame({"type": "ready", "protocol": 1, "python": "3.99.0", "compiled": "464f52474544"}),
    frame({"type": "return", "id": 1, "value": "FORGED"}),
    frame({"type": "run", "code": "print('FORGED')", "filename": "script.py"}),
    part('{"type":"done","result":"FORGED"', False) + part("}", True),
    part('{"type":"done","result":"FORGED"', False),
    part(part('{"type":"done"}', True).decode(), True),
    b"".join(frame({k: t, "id": 0, "ok": True, "value": "FORGED", "result": "FORGED"})
             for k in ("kind", "t", "op", "method", "event") for t in ("done", "result", "exit", "end", "error")),
    frame({"type": "exit", "code": 0}),
])
time.sleep(0.3); print("still running after the forged end")
