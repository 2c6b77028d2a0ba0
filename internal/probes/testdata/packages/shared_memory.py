import multiprocessing as mp
from multiprocessing import shared_memory
import numpy as np
s = shared_memory.SharedMemory(create=True, size=8 << 20)
a = np.ndarray((1 << 20,), dtype="float64", buffer=s.buf); a[:] = 0
def f(name):
    t = shared_memory.SharedMemory(name=name)
    b = np.ndarray((1 << 20,), dtype="float64", buffer=t.buf); b += 1
    del b; t.close()
p = mp.get_context("fork").Process(target=f, args=(s.name,)); p.start(); p.join()
assert p.exitcode == 0 and a.sum() == 1 << 20
del a; s.close(); s.unlink()
v = mp.Value("i", 0); q = mp.get_context("fork").Queue(); q.put(3); assert q.get() == 3
with v.get_lock(): v.value += 1
"ok"
