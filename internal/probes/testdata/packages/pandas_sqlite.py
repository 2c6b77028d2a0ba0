import pandas as pd, sqlite3
with sqlite3.connect("x.db") as c:
    c.execute("pragma journal_mode=wal")
    pd.DataFrame({"a": range(1000)}).to_sql("t", c, index=False)
    assert pd.read_sql("select sum(a) s from t", c)["s"][0] == 499500
"ok"
