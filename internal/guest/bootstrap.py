import marshal,posix,sys
def part(n=0):
    n=n or int.from_bytes(part(4),"big")
    b=b""
    while len(b)<n:b+=posix.read(3,n-len(b))or posix._exit(0)
    return b
code=part()
magic=sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
try:loaded=code[:4]==magic and marshal.loads(memoryview(code)[4:])
except Exception:loaded=0
if type(loaded)!=tuple:
    code and(posix.write(4,b'{"type":"stale"}\n'),part())
    exec(compile(part(),"<loader>","exec"))
exec(loaded[0],{"__name__":"<runner>","__builtins__":dict(vars(sys.modules["builtins"])),"loaded":loaded})
