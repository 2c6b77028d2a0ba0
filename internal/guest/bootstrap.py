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
try:c,l=marshal.loads(m[4:])if m[:4]==g else(0,0)
except Exception:c=l=0
if type(c)!=type(read.__code__)or type(l)not in(bytes,str):
    if not s:
        posix.write(4,b'{"type":"stale"}\n')
        s=boot()[1]
    s,_,l=s.decode().partition("\f\n")
    c=compile(s,"<runner>","exec",0,True,2)
    m=b""
elif type(l)==str:
    l=marshal.dumps(compile(l,"<runner>","exec",0,True,1))
    m=b""
exec(c,{"__name__":"<runner>","__builtins__":dict(vars(sys.modules["builtins"])),"library":l,"compiled":not m and g+marshal.dumps((c,l))})
