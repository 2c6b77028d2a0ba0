# A main module that a spawned child can import, as the documentation of multiprocessing demands of every script.
import multiprocessing as mp, math
if __name__ == "__main__":
    with mp.get_context("spawn").Pool(4) as p: r = p.map(math.factorial, range(10))
    assert r[9] == 362880
"ok"
