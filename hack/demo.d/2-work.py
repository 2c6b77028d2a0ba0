# Top-level await, child processes and threads, and the standard library.
import asyncio, json, sqlite3, subprocess, concurrent.futures

async def square(n):
    await asyncio.sleep(0.01)
    return n * n

print("await:", await asyncio.gather(*(square(n) for n in range(5))))
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    print("processes:", list(pool.map(abs, [-1, -2, -3])))
db = sqlite3.connect(":memory:")
print("sqlite:", db.execute("select sqlite_version()").fetchone()[0])
subprocess.run(["/bin/sh", "-c", "echo output of a child process"])
print(json.dumps({"done": True}))
