import concurrent.futures as cf, math, multiprocessing as mp
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with cf.ProcessPoolExecutor(4, mp_context=mp.get_context(method)) as e:
            assert list(e.map(math.factorial, range(20)))[19] == math.factorial(19)
    with cf.ProcessPoolExecutor() as e: assert e.submit(pow, 2, 10).result() == 1024
"ok"
