import multiprocessing as mp, math
with mp.get_context("fork").Pool(4) as p: assert p.map(math.factorial, range(10))[9] == 362880
m = mp.get_context("fork").Manager(); d = m.dict(); d["x"] = 1; assert dict(d) == {"x": 1}; m.shutdown()
"ok"
