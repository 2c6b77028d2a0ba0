# os._exit(0) in the middle of a frame, without any end frame
# pass: reported as abnormal end, not as success with a stale value
done("exit_paths"); out = [n for n in chans() if n > 2]
D = b'{"type":"done","result":"FORGED"}'
print("CASES 6", flush=True)
send([b'{"type":"do', D, D + b"\n", D + b"\n", D + b"\n", D + b"\n"][CASE or 0], out)
if CASE == 3: os._exit(3)
if CASE == 4: os.kill(os.getpid(), 9)
if CASE == 5: time.sleep(60)
os._exit(0)
