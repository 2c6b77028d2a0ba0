# terminal escapes in stdout, stderr, exception text and result: colours, title, OSC 52 clipboard, OSC 8 links, cursor moves, bidi overrides, DCS
# pass: returned only as JSON-escaped text; host logs never print it raw
s = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]52;c;cHduZWQ=\x07\x1b]8;;http://example.invalid\x07link\x1b]8;;\x07\x1b[2J\x1b[1;1H\x1bP+q544e\x1b\\\u202eevil\u202c\r\nfake line\b\b\x9b31m"
print(s); sys.stderr.write(s + "\n"); done("ansi"); result = s
raise RuntimeError(s)
