import asyncio, sys
async def main():
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(input())", stdin=-1, stdout=-1)
    out, _ = await p.communicate(b"hi\n")
    assert out == b"hi\n" and p.returncode == 0
    p = await asyncio.create_subprocess_shell("echo $((6*7)); exit 3", stdout=-1)
    assert (await p.communicate())[0] == b"42\n" and p.returncode == 3
    assert await asyncio.gather(*(asyncio.to_thread(lambda i=i: i * i) for i in range(20))) == [i * i for i in range(20)]
asyncio.run(main())
"ok"
