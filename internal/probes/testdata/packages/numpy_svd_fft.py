import numpy as np
a = np.random.default_rng(2).random((300, 200))
u, s, v = np.linalg.svd(a, full_matrices=False)
assert np.allclose(u * s @ v, a)
x = np.random.default_rng(3).random(1 << 16)
assert np.allclose(np.fft.ifft(np.fft.fft(x)).real, x)
assert np.linalg.eigvalsh(a.T @ a).min() > 0
"ok"
