import sqlite3, threading
c = sqlite3.connect(":memory:"); c.execute("create table t(a)")
c.executemany("insert into t values(?)", ((i,) for i in range(10000)))
assert c.execute("select sum(a) from t").fetchone()[0] == 49995000
f = sqlite3.connect("/tmp/f.db", timeout=10); f.execute("pragma journal_mode=wal"); f.execute("create table t(a)"); f.commit()
def add():
    g = sqlite3.connect("/tmp/f.db", timeout=20); g.execute("insert into t values(1)"); g.commit(); g.close()
ts = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
assert f.execute("select count(*) from t").fetchone()[0] == 8
"ok"
