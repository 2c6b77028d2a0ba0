import posix,sys,marshal
def read(n):
    b=b""
    while len(b)<n:
        c=posix.read(3,n-len(b))
        if not c:posix._exit(0)
        b+=c
    return b
h=read(8)
m=read(int.from_bytes(h[:4],"big"))
s=read(int.from_bytes(h[4:],"big"))
g=sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
try:c=marshal.loads(m[4:])if m[:4]==g else 0
except Exception:c=0
if type(c)!=type(read.__code__):
    c=compile(s,"<runner>","exec",0,True,2)
    m=b""
exec(c,{"__name__":"<runner>","__builtins__":dict(vars(sys.modules["builtins"])),"compiled":not m and g+marshal.dumps(c)})
