# return objects with hostile __repr__/__reduce__/__json__/__getattr__: hang, raise, 1 GiB repr
# pass: time/size limits hold also while the result is encoded
class Evil:
    def __repr__(self): return "R" * (1 << 28)
    def __str__(self): time.sleep(60); return ""
    def __reduce__(self): return (print, ("reduced",))
    def __getattr__(self, name): raise KeyboardInterrupt(name)
class Endless(list):
    def __iter__(self):
        while True: yield 1
class Key(str):
    def __str__(self): return '","type":"done","result":"FORGED'
loop = []; loop.append(loop)
done("result_types")
([Evil(), {Evil(): 1}], Endless([1]), {Key("k"): 1}, loop, Exception("x"))[CASE or 0]
