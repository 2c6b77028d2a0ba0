# What the original's generated entrypoint does, by its README: standard output becomes JSON frames, MCP calls go over
# the container's standard streams, and await works at the top level.
import asyncio
import json
import sys
import traceback

wire = sys.stdout


def send(**frame):
    wire.write(json.dumps(frame) + "\n")
    wire.flush()


class Stream:
    def __init__(self, kind):
        self.kind = kind

    def write(self, text):
        send(type=self.kind, data=text)
        return len(text)

    def flush(self):
        pass


class Server:
    def __init__(self, name):
        self.name = name

    def __getattr__(self, tool):
        async def call(**arguments):
            send(type="rpc", server=self.name, tool=tool, arguments=arguments)
            line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return answer["result"]

        return call


async def main():
    with open("/ipc/request.json") as f:
        request = json.load(f)
    sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
    names = {"__name__": "__main__", "mcp_servers": {s: Server(s) for s in request["servers"]}}
    names.update({"mcp_" + s: server for s, server in names["mcp_servers"].items()})
    try:
        code = compile(request["code"], "<script>", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
        waits = eval(code, names)
        if waits is not None:
            await waits
    except BaseException:
        send(type="stderr", data=traceback.format_exc())
        send(type="end", status="error")
    else:
        send(type="end", status="success")


asyncio.run(main())
