import threading, concurrent.futures as cf, queue
q = queue.Queue()
ts = [threading.Thread(target=lambda: q.put(1)) for _ in range(50)]
[t.start() for t in ts]; [t.join() for t in ts]
assert q.qsize() == 50
with cf.ThreadPoolExecutor(32) as e: assert sum(e.map(lambda x: x * x, range(1000))) == 332833500
"ok"
