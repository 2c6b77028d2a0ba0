import numpy as np, os
m = np.memmap("/tmp/m.dat", dtype="float64", mode="w+", shape=(1000, 1000))
m[:] = 1.5; m.flush(); del m
r = np.memmap("/tmp/m.dat", dtype="float64", mode="r", shape=(1000, 1000))
assert r.sum() == 1.5e6 and os.path.getsize("/tmp/m.dat") == 8000000
np.save("a.npy", np.arange(10)); assert np.load("a.npy", mmap_mode="r")[9] == 9
np.savez_compressed("a.npz", x=np.arange(10)); assert np.load("a.npz")["x"].sum() == 45
"ok"
