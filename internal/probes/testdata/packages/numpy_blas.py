import numpy as np
a = np.random.default_rng(1).random((600, 600))
i = np.linalg.inv(a)
assert np.allclose(a @ i, np.eye(600), atol=1e-6)
"ok"
