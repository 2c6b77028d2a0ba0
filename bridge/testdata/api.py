# What scripts can rely on, as a script. TestAPI runs it under every Python against the servers of oddities().
import asyncio
import inspect
import json
import pickle
import copy
import sys
import threading
import traceback
from mcp import runtime
from mcp.runtime import MCPError


def raises(kind, part, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except kind as e:
        assert part in str(e), str(e)
        return e
    raise AssertionError("no %s" % kind)


def notes(e):
    """The lines that a traceback ends with; before 3.11 there are none."""
    return "".join(e.__notes__) if sys.version_info >= (3, 11) else None


async def raises_async(kind, part, awaitable):
    try:
        await awaitable
    except kind as e:
        assert part in str(e), str(e)
        return e
    raise AssertionError("no %s" % kind)


async def mapping():
    assert "odd" in mcp_servers and "nope" not in mcp_servers and len(mcp_servers) == len(list(mcp_servers)) > 8
    assert list(mcp_servers.keys()) == list(runtime.discovered_servers()) == [n for n, s in mcp_servers.items()]
    assert mcp_servers["odd"] is mcp_odd is mcp_servers.odd and mcp_servers.get("nope") is None
    assert "12 tools" not in repr(mcp_servers) and "mcp_odd" in repr(mcp_odd)
    e = raises(LookupError, "did you mean 'odd'", lambda: mcp_servers["od"])
    assert isinstance(e, MCPError) and e.server == "od"
    raises(TypeError, "string", lambda: mcp_servers[5])


async def aliases():
    names = {s["name"]: s["alias"] for s in runtime.discovered_servers(detailed=True)}
    assert names["web-search"] == "web_search_2" and names["web_search"] == "web_search"
    assert names["servers"] == "servers_2" and names["class"] == "class_" and names["1st"] == "_1st" and names["__init__"] == "init"
    assert mcp_servers["servers"] is mcp_servers_2 and mcp_servers["class"] is mcp_class_
    assert mcp_servers["été"] is mcp_été
    for name in list(names)[:9]:
        assert (await mcp_servers[name]["echo"](a=name)).a == name
    tools = {t["name"]: t["alias"] for t in runtime.list_tools_sync("odd")}
    assert tools["import"] == "import_" and tools["__class__"] == "class_" and tools["a.b"] == "a_b_2" and tools["a_b"] == "a_b"
    assert tools["a-b"] == "a_b_3" and tools["9"] == "_9" and tools[""] == "unnamed" and tools["日本"] == "日本"
    assert all(a.isidentifier() and len(a) <= 110 for a in tools.values()) and len(set(tools.values())) == len(tools)
    for name, alias in tools.items():
        assert getattr(mcp_odd, alias) is mcp_odd[name]
    assert "x" * 128 in tools and mcp_odd["x" * 128] and set(dir(mcp_odd)) == set(tools.values()) and set(mcp_odd) == set(tools)


async def by_name():
    assert (await runtime.call_tool("odd", "a-b", {"x": 1})).got == {"x": 1}
    assert runtime.call_tool_sync("odd", "a.b", {"x": 2}).got == {"x": 2}
    assert (await runtime.call_tool(mcp_odd, "__class__")).tool == "__class__"
    assert (await mcp_odd.class_()).tool == "__class__" and (await mcp_odd["import"]()).tool == "import"
    e = await raises_async(MCPError, "did you mean", runtime.call_tool("odd", "a-bb", {}))
    assert e.type == "LookupError" and (e.server, e.tool) == ("odd", "a-bb")
    e = raises(AttributeError, "has no tool 'ab'; did you mean", lambda: mcp_odd.ab)
    assert isinstance(e, MCPError) and not hasattr(mcp_odd, "nothing_like_it")
    await raises_async(LookupError, "no MCP server", runtime.call_tool("", "tools", {}))
    await raises_async(TypeError, "must be strings", runtime.call_tool(5, "tools", {}))
    await raises_async(MCPError, "no reason", runtime.call_tool("broken", "t"))
    raises(MCPError, "cannot be used: no reason", lambda: mcp_broken.anything)
    raises(MCPError, "it does not start", lambda: mcp_failing.anything)
    assert "unavailable: no reason" in repr(mcp_broken) and dir(mcp_broken) == []


async def signatures():
    f = mcp_odd.names
    assert inspect.iscoroutinefunction(f) and f.__name__ == "names" and f.__qualname__ == "mcp_odd.names"
    s = inspect.signature(f)
    assert list(s.parameters) == ["self", "from_", "_target", "server", "tool", "args", "a_b", "names"], s
    assert str(s).startswith("(self: str, from_: str, _target: str = None, server: "), s
    assert s.parameters["server"].default == "s" and "the one" in f.__doc__ and "from_: str (the tool's 'from')" in f.__doc__, f.__doc__
    want = {"self": "1", "from": "2", "_target": "3", "server": "4", "tool": "5", "args": "6", "a-b": "7", "names": "8"}
    assert (await f(self="1", _target="3", server="4", tool="5", args="6", names="8", **{"from": "2", "a-b": "7"})).got == want
    assert (await f(self="1", from_="2", _target="3", server="4", tool="5", args="6", names="8", a_b="7")).got == want
    assert (await f("1", "2", "3", "4", "5", "6", "7", "8")).got == want and f.sync("1", "2").got == {"self": "1", "from": "2"}
    assert (await f("delete_everything", "x")).tool == "names"
    e = await raises_async(TypeError, "needs the argument 'from_'", f("1"))
    assert isinstance(e, MCPError) and "mcp_odd.names(self: str" in str(e) and (e.server, e.tool) == ("odd", "names")
    await raises_async(TypeError, "has no argument 'fom'", f("1", fom="2"))
    await raises_async(TypeError, "takes 8 positional", f(*"123456789"))
    await raises_async(TypeError, "'self' twice", f("1", self="2", from_="2"))
    await raises_async(TypeError, "'from' twice", f("1", from_="2", **{"from": "3"}))
    assert (await f("1", "2", server=None)).got == {"self": "1", "from": "2"}  # None: not given
    assert (await mcp_odd.nullable(a=None)).got == {"a": None}
    raises(TypeError, "argument 'self': object object", f.sync, object(), "2")
    raises(TypeError, "argument 'from': bytes object cannot be sent as JSON; decode it, or encode it as base64", f.sync, "1", b"x")
    assert str(inspect.signature(mcp_odd.open)) == "(a: int = 5, **more) -> Any" and (await mcp_odd.open(zzz=[1])).got == {"zzz": [1]}
    assert list(inspect.signature(mcp_odd["import"]).parameters) == ["more"]
    for name in mcp_odd:
        assert inspect.signature(mcp_odd[name]) and isinstance(mcp_odd[name].__doc__, str)
    types = {p.name: str(p.annotation) for p in inspect.signature(mcp_odd.types).parameters.values()}
    assert types == {
        "s": "str", "e": 'Literal["a", "b\'c", 1] | None', "l": "list[int]", "u": "str | None", "d": "dict[str, float]",
        "o": "dict", "r": "dict", "c": "Literal[5]", "x": "Any", "t": "int | bool", "cycle": "dict",
    }, types


def answer(message):
    return runtime.call_tool_sync("say", "say", {"message": message})


def text(t, **more):
    return answer(dict({"content": [{"type": "text", "text": t}]}, **more))


async def texts():
    t = text("hello TODO world")
    assert isinstance(t, str) and t == "hello TODO world" and "TODO" in t and t[:5] + "..." == "hello..." and t[0] == "h" and len(t) == 16
    assert t["content"][0]["text"] == t == t.text == t.content[0].text and t.raw["content"] == t.content and t["isError"] is False
    assert t.structured is None and {t: 1}["hello TODO world"] == 1 and json.dumps(t) == '"hello TODO world"' and hash(t) == hash(str(t))
    assert "TODO" in t["content"] and t["content"].upper() == "HELLO TODO WORLD" and f"{t}" == str(t) and repr(t) == repr(str(t))
    assert t.upper() == "HELLO TODO WORLD" and type(pickle.loads(pickle.dumps(t))) is str and copy.deepcopy(t) == t
    raises(AttributeError, "is a str and has no 'titel'", lambda: t.titel)
    e = raises(KeyError, "x", lambda: t["x"])
    assert e.args == ("x",) and notes(e) in ("this result is a str", None)
    assert text("") == "" and not text("") and text("5") == "5" and text("[1, 2") == "[1, 2" and text("{}x") == "{}x"
    two = answer({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    assert two == "a\nb" and len(two.content) == 2


async def data():
    d = text(' {"title": "T", "items": [1], "nested": {"list": [{"id": "x"}]}, "content": "mine", "n": 12345678901234567890123}')
    assert isinstance(d, dict) and d.title == d["title"] == "T" and d["items"] == [1] and d.nested.list[0].id == "x"
    assert d["content"] == d.content == "mine" and runtime.raw(d)["content"][0]["type"] == "text" and d.raw is runtime.raw(d)
    assert d.n == 12345678901234567890123 and json.loads(json.dumps(d)) == d == dict(d) and list(d)[0] == "title" and "title" in d and len(d) == 5
    assert d[:3] == ' {"' and d.text.startswith(' {"title"') and d.get("x", 5) == 5 and d.get("content") == "mine"
    assert type(pickle.loads(pickle.dumps(d))) is dict and pickle.loads(pickle.dumps(d)) == d and copy.deepcopy(d).nested.list[0].id == "x"
    raises(AttributeError, "no 'titel'; it has 'title'", lambda: d.titel)
    e = raises(KeyError, "titel", lambda: d["titel"])
    assert type(e) is KeyError and e.args == ("titel",) and notes(e) in ("there is 'title', 'items', 'nested', 'content', 'n'", None), notes(e)
    assert notes(raises(KeyError, "ids", lambda: d["nested"]["list"][0]["ids"])) in ("there is 'id'", None)
    assert notes(raises(KeyError, "0", lambda: d[0])) in ("there is 'title', 'items', 'nested', 'content', 'n'", None)
    assert getattr(d, "titel", 0) == 0 and not hasattr(d, "__iter_me__") and {**d}["title"] == "T"
    d.title = "U"
    assert d["title"] == "U" and dict(d, x=1)["x"] == 1 and (lambda **k: k["title"])(**d) == "U"
    plain = text('{"a": 1}')
    assert plain["content"][0]["text"] == '{"a": 1}' and plain["structuredContent"] is None and plain.get("content")[0].type == "text"
    assert not text("{}") and not text("[]") and text('{"raw": 1, "text": 2}').raw == 1
    s = answer({"content": [{"type": "text", "text": "for people"}], "structuredContent": {"a": {"b": 1}, "c": None}})
    assert s.a.b == 1 and s.text == "for people" and s.structured == s == {"a": {"b": 1}, "c": None} and s["content"][0]["text"] == "for people"
    l = text('[{"id": 1}, {"id": 2}]')
    assert [x.id for x in l] == [1, 2] and l[0].id == 1 and l[-1:] == [{"id": 2}] and isinstance(l, list) and len(l) == 2 and l["content"][0].type == "text"
    assert json.dumps(l) == '[{"id": 1}, {"id": 2}]' and l == [{"id": 1}, {"id": 2}] and sorted(l, key=lambda x: -x.id)[0].id == 2

    def blocks(*texts):
        return answer({"content": [{"type": "text", "text": t} for t in texts]})

    each = blocks('{"id": 1}', ' {"id": 2}\n', "[3]")  # as older SDKs send a list
    assert each == [{"id": 1}, {"id": 2}, [3]] and each[1].id == 2 and isinstance(each, list) and len(each.content) == 3
    assert blocks('{"id": 1}', "", "[2]") == [{"id": 1}, [2]]
    assert blocks('{"id": 1}', "and so on") == '{"id": 1}\nand so on' and blocks("1", "2") == "1\n2" and blocks('{"a":', "1}") == {"a": 1}


async def wrapped():
    def w(**structured):
        return answer({"content": [{"type": "text", "text": str(list(structured.values())[0])}], "structuredContent": structured})

    assert w(result=5) == 5 and w(result=5) + 1 == 6 and w(result=5).raw["structuredContent"]["result"] == 5 and w(result=5)["result"] == 5
    assert w(result=2.5) == 2.5 and w(result=True) is True and w(result=False) is False and w(result=None) is None
    assert w(result="x") == "x" == w(result="x").result and w(result=[1, {"a": 2}])[1].a == 2 and w(result={"a": 1}).a == 1
    c = w(content='{"TODO": 1}')
    assert "TODO" in c and isinstance(c, str) and c["content"][0]["text"] == '{"TODO": 1}' and json.loads(c) == {"TODO": 1}
    assert w(content=["x"]) == {"content": ["x"]} and w(result=1, x=2) == {"result": 1, "x": 2}
    other = answer({"content": [{"type": "text", "text": "a"}], "structuredContent": {"content": "b"}})
    assert other == {"content": "b"} and other.content == "b"


async def errors():
    e = raises(MCPError, "it broke", text, "it broke", isError=True)
    assert e.message == str(e) == "it broke" and (e.server, e.tool) == ("say", "say") and e.content[0].text == "it broke"
    assert notes(e) in ("('say' of the MCP server 'say' has failed)", None)
    e = await raises_async(MCPError, "(it is mcp_odd.invalid(a: int) -> Any)", mcp_odd.invalid(a=5))
    assert e.code == -32602 and e.data == {"why": [1]} and e.signature == "mcp_odd.invalid(a: int) -> Any", (e.code, e.data, e.signature)
    raises(MCPError, "said nothing", answer, {"isError": True, "content": []})
    e = raises(MCPError, "no network", answer, {"toolResult": {"content": [{"type": "text", "text": "no network"}], "isError": True}, "_meta": {}})
    assert e.content[0].text == "no network"
    assert answer({"toolResult": {"content": [{"type": "text", "text": '{"a": 1}'}]}}).a == 1  # MCP 2024-10-07
    assert answer({"toolResult": [1]}) == [1] and answer({"toolResult": 1, "x": 2}) == {"toolResult": 1, "x": 2}
    e = raises(MCPError, "{'a': 1}", answer, {"isError": True, "content": [], "structuredContent": {"a": 1}})
    assert pickle.loads(pickle.dumps(e)).message == e.message
    assert issubclass(MCPError, Exception) and runtime.MCPError is MCPError


async def hostile():
    assert answer({"content": None}) == "" and answer({"content": 5}) == "" and answer({"content": [None, 5, "x", {}]}) == ""
    assert answer({"content": [{"type": "text", "text": 5}, {"type": "text"}]}) == "" and answer(5) == 5 and answer(None) is None
    assert answer({"content": [{"type": "wonder", "x": 1}]}).content[0].x == 1 and answer({"a": 1}).a == 1 and answer({"content": {}, "structuredContent": [1]}) == [1]
    assert answer({"content": "as it is"}) == "as it is" and answer({"content": {"type": "text", "text": '{"a": 1}'}}).a == 1
    raises(MCPError, "no such file", answer, {"isError": True, "content": "no such file"})
    assert answer({"content": [], "isError": "yes"}) == "" and answer({"structuredContent": {"result": {}}}) == {}
    assert answer({"content": [{"type": "image", "data": 5}]}).mime == "application/octet-stream"
    deep = text("[" * 5000 + "]" * 5000)
    assert isinstance(deep, (str, list))
    big = text(json.dumps({"x": "y" * 3000000}))
    assert len(big.x) == 3000000
    n = 10**5000
    assert runtime.call_tool_sync("say", "number", {}).n.bit_length() == n.bit_length()
    bad = answer({"content": [{"type": "image", "data": "a", "mimeType": "image/png"}]})
    raises(MCPError, "base64", lambda: bad.data)


async def media():
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    import base64

    block = {"type": "image", "data": base64.b64encode(png).decode(), "mimeType": "image/png"}
    m = answer({"content": [block]})
    assert m.data == png == bytes(m) and m.mime == "image/png" and m["type"] == "image" and m["data"] == block["data"] and m == block
    assert m.content[0] == block and m.raw["content"] == [block]
    assert repr(m) == "<image image/png, %d bytes>" % len(png) and open(m.save("x.png"), "rb").read() == png
    both = answer({"content": [{"type": "text", "text": "a dot"}, block, block]})
    assert both == "a dot" and len(both.media) == 2 and both.media[0].data == png and both.content[1].save("y.png") == "y.png"
    two = answer({"content": [block, block]})
    assert [x.mime for x in two] == ["image/png"] * 2
    r = answer({"content": [{"type": "resource", "resource": {"uri": "file:///x", "mimeType": "text/plain", "text": "é"}}]})
    assert r.text == "é" and r.data == "é".encode() and r.uri == "file:///x" and r.mime == "text/plain"
    link = answer({"content": [{"type": "resource_link", "uri": "file:///y", "name": "y"}]})
    raises(MCPError, "read_resource", lambda: link.data)
    assert link.uri == "file:///y"
    own = runtime.Media(png)
    assert own.mime == "image/png" and own.data == png and runtime.Media(b"abc").mime == "application/octet-stream"


async def docs():
    d = runtime.query_tool_docs_sync("odd", "names")
    assert d == await runtime.query_tool_docs("odd", tool="names") and d["toolAlias"] == "names" and d.signature.startswith("mcp_odd.names(") and "inputSchema" not in d
    assert runtime.query_tool_docs_sync("odd", "names", "full")["inputSchema"]["properties"] and len(await runtime.query_tool_docs("odd")) == len(mcp_odd)
    raises(LookupError, "did you mean 'names'", runtime.query_tool_docs_sync, "odd", "name")
    found = await runtime.search_tool_docs("echo", limit=3)
    assert len(found) == 3 and found[0]["tool"] == "echo" and found[0]["server"] and found == runtime.search_tool_docs_sync("echo", limit=3)
    assert runtime.search_tool_docs_sync("zzzzz") == []
    assert runtime.describe_server("odd")["tools"] == tuple(runtime.list_tools_sync("odd")) == await runtime.list_tools("odd")
    assert [s["name"] for s in runtime.list_loaded_server_metadata()][:1] and runtime.LOADED_MCP_SERVERS == LOADED_MCP_SERVERS == ("1st",), LOADED_MCP_SERVERS
    assert await runtime.list_servers() == runtime.list_servers_sync() == runtime.discovered_servers()
    assert "odd" in runtime.capability_summary()
    stubs = runtime.stubs("odd")
    compile(stubs, "odd.pyi", "exec")
    assert "async def names(self: str, from_: str, _target: str | None = None" in stubs, stubs
    help(mcp_odd.names)
    help(mcp_odd)
    raises(ModuleNotFoundError, "did you mean 'odd'", lambda: __import__("mcp.servers.od"))


async def resources():
    assert [r.uri for r in await runtime.list_resources("odd")] == ["r:0", "r:1", "r:2"] == [r.uri for r in runtime.list_resources_sync("odd")]
    r = await runtime.read_resource("odd", "r:1")
    assert r == "text of r:1" and r.content[0].uri == "r:1"
    assert runtime.read_resource_sync("odd", "blob").data == b"abc"
    assert (await runtime.list_prompts("odd"))[0].name == "p" and (await runtime.get_prompt("odd", "p", {"x": "1"})).messages[0].content.text == "1"
    e = await raises_async(MCPError, "no resources/templates/list", runtime.list_resource_templates("odd"))


async def parallel():
    async def one(i):
        return (await mcp_odd.open(a=i)).got["a"]

    assert await asyncio.gather(*map(one, range(100))) == list(range(100))
    out = []
    threads = [threading.Thread(target=lambda i=i: out.append(runtime.call_tool_sync("odd", "open", {"a": i}).got.a)) for i in range(20)]
    [t.start() for t in threads]
    inside = [mcp_odd.open.sync(a=i).got.a for i in range(20)]  # blocks the loop, and nothing else
    await asyncio.gather(*map(one, range(20)))
    [t.join() for t in threads]
    assert sorted(out) == inside == list(range(20))
    loop = asyncio.get_running_loop()
    assert sorted(await asyncio.gather(*[loop.run_in_executor(None, lambda i=i: asyncio.run(one(i))) for i in range(8)])) == list(range(8))
    try:
        await asyncio.wait_for(mcp_odd.hang(), 0.05)
        raise AssertionError
    except asyncio.TimeoutError:
        pass
    while not (await mcp_odd.hanging()).cancelled:
        await asyncio.sleep(0.01)


failed = 0
for test in (mapping, aliases, by_name, signatures, texts, data, wrapped, errors, hostile, media, docs, resources, parallel):
    try:
        await test()
    except BaseException:
        failed += 1
        print("---", test.__name__, file=sys.stderr)
        traceback.print_exc()
assert not failed, failed
