import multiprocessing as mp, math
if __name__ == "__main__":
    with mp.get_context("forkserver").Pool(2) as p: r = p.map(math.factorial, range(10))
    assert r[9] == 362880
"ok"
