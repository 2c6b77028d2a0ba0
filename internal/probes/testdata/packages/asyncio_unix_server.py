import asyncio
async def echo(r, w):
    w.write((await r.readline()).upper()); await w.drain(); w.close()
async with await asyncio.start_unix_server(echo, "/tmp/s.sock") as s:
    r, w = await asyncio.open_unix_connection("/tmp/s.sock")
    w.write(b"hello\n"); await w.drain()
    assert await r.readline() == b"HELLO\n"
    w.close()
"ok"
