# a child sends calls after the main program ended
# pass: calls after the end are dropped and the child is gone
if os.fork() == 0:
    time.sleep(0.3)
    for i in range(100): send(call(1000 + i)); time.sleep(0.01)
    os._exit(0)
done("rpc_after_done")
if CASE == 1: send(frame({"type": "done", "result": "FORGED"})); send(call(1)); time.sleep(1)
