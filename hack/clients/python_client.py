"""A session with mcp-bridge by the MCP SDK for Python, for cmd/mcp-bridge/clients_linux_test.go:

    python python_client.py COMMAND [ARG...]

It prints one line of JSON: what it saw. It judges nothing; the test does.
"""

import asyncio
import json
import os
import secrets
import sys
import time

from mcp import Client, StdioServerParameters


def named(name):
    """How many processes have this name: what can be seen of a sandbox from outside, whoever runs it."""
    n = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as f:
                n += f.read().strip() == name
        except OSError:  # it ended meanwhile
            pass
    return n


async def until(condition):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


async def main(command, *args):
    report = {"sdk": "python"}
    async with Client(StdioServerParameters(command=command, args=args, env=dict(os.environ))) as client:
        report["server"] = client.server_info.name
        tools = (await client.list_tools()).tools
        report["tools"] = [t.name for t in tools]
        report["schemas"] = all(
            t.input_schema.get("type") == "object" and (t.output_schema or {}).get("type") == "object" for t in tools
        )

        async def run(code):
            r = await client.call_tool("run_python", {"code": code})
            return {**r.structured_content, "isError": bool(r.is_error), "text": r.content[0].text}

        report["success"] = await run("print('hello from', 6 * 7)\n{'answer': 6 * 7}")
        report["failure"] = await run("print('before')\n1 / 0")

        mark = "mb" + secrets.token_hex(6)
        running = asyncio.create_task(run(f"open('/proc/self/comm', 'w').write('{mark}')\nwhile True: pass"))
        report["started"] = await until(lambda: named(mark) > 0)
        running.cancel()
        try:
            await running
            report["cancelled"] = "answered"
        except asyncio.CancelledError:
            report["cancelled"] = "cancelled"
        except Exception as e:
            report["cancelled"] = f"failed: {e}"
        report["gone"] = await until(lambda: named(mark) == 0)
        report["next"] = await run("'still here'")

        manual = (await client.read_resource("resource://mcp-server-code-execution-mode/capabilities")).contents[0]
        report["manual"] = {"mimeType": manual.mime_type, "text": manual.text}
    print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))
