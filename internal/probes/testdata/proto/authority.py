# servers that the run may not call, under names that resemble the one it may
# pass: exact names only; one call is made
done("authority")
i = 0
for s in ("Allowed", "ALLOWED", "allowed ", " allowed", "allowed\0", "allowed/../other", "other", "", "__proto__", "\u0430llowed", "allowed\u200b", "a" * 100000, "\x1b[31mallowed"):
    i += 1; send(call(i, s, "write"), [n for n in chans() if n > 2])
send(call(i + 1, "allowed", "read", path="x"), [n for n in chans() if n > 2])
time.sleep(0.5)
