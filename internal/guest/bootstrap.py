import posix,sys,marshal
def read(n):
    b=b""
    while len(b)<n:
        c=posix.read(3,n-len(b))
        if not c:posix._exit(0)
        b+=c
    return b
def boot():
    h=read(8)
    return read(int.from_bytes(h[:4],"big")),read(int.from_bytes(h[4:],"big"))
m,s=boot()
g=sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
try:c,l=marshal.loads(memoryview(m)[4:])if m[:4]==g else(0,0)
except Exception:c=l=0
if type(c)!=type(read.__code__)or not(type(l)==tuple and{*map(type,l)}<={bytes,str}):
    if not s:
        posix.write(4,b'{"type":"stale"}\n')
        s=boot()[1]
    s,*l=s.decode().split("\f\n")
    c=compile(s,"<runner>","exec",0,True,2)
    m=b""
elif str in map(type,l):
    l=[marshal.dumps(compile(x,"<runner>","exec",0,True,1))for x in l]
    m=b""
exec(c,{"__name__":"<runner>","__builtins__":dict(vars(sys.modules["builtins"])),"more":list(l),"compiled":not m and g+marshal.dumps((c,tuple(l)))})
