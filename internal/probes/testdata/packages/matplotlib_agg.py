import io, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
f, ax = plt.subplots(); ax.plot([1, 4, 9]); ax.set_title("$x^2$ äöü")
for fmt in ("png", "svg", "pdf"):
    b = io.BytesIO(); f.savefig(b, format=fmt); assert len(b.getvalue()) > 1000, fmt
"ok"
