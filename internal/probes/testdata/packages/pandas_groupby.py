import pandas as pd, numpy as np, io
d = pd.DataFrame({"k": np.arange(100000) % 7, "v": np.arange(100000.0)})
g = d.groupby("k")["v"].agg(["mean", "sum", "count"])
assert g["count"].sum() == 100000
d.to_csv("d.csv", index=False)
assert pd.read_csv("d.csv")["v"].sum() == d["v"].sum()
t = pd.Series(range(48), index=pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin"))
assert len(t.resample("D").sum()) == 3
d.to_json(io.StringIO()); d.to_pickle("d.pkl"); assert len(pd.read_pickle("d.pkl")) == 100000
"ok"
