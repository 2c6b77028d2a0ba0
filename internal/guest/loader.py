# Compiles what every script needs of the runner. The rest is compiled by the boot after this one.
text, *rest = part().decode().split("\f\n")
loaded = compile(text, "<runner>", "exec", 0, True, 2), tuple(rest)
loaded += (magic + marshal.dumps(loaded),)
