# --- awaiting without a loop -------------------------------------------------------------------------------------------

# Modules of which no part imports asyncio: see TestAloneModules.
ALONE = frozenset(
    "abc argparse array ast base64 binascii bisect bz2 calendar cmath collections colorsys configparser contextlib copy csv "
    "dataclasses datetime decimal difflib enum errno fnmatch fractions functools glob gzip hashlib heapq hmac html io ipaddress "
    "itertools json keyword lzma math mcp mimetypes numbers operator os pathlib platform pprint random re secrets shlex shutil "
    "sqlite3 statistics string struct subprocess sys tarfile tempfile textwrap time tomllib types typing unicodedata urllib uuid "
    "warnings xml zipfile zlib zoneinfo".split()
)
LOOPS = "asyncio", "__import__", "importlib", "exec(", "eval(", "user_tools", "__await__", "coroutine"


def alone(text):
    """Whether a script that awaits can do so without an event loop, which takes longer to import than all else together.

    It can if it awaits nothing but calls, each of which then holds up the rest, of which there is none. What is not certain
    gets a loop, as every script that says asyncio, or imports what is not known here.
    """
    if any(word in text for word in LOOPS) or "yield" in text and "async" in text:
        return False
    return all(harmless(line.strip()) for line in text.split("\n") if "import" in line)


def harmless(line):
    kind, _, rest = line.partition(" ")
    if kind == "lazy":  # since 3.15
        kind, _, rest = rest.lstrip().partition(" ")
    rest = rest.partition("#")[0]
    if kind == "from":
        words = rest.split()
        return words[1:2] == ["import"] and words.count("import") == 1 and ";" not in rest and words[0].partition(".")[0] in ALONE
    if kind == "import":
        for part in rest.split(","):
            words = part.split()
            if len(words) not in (1, 3) or ";" in part or words[0].partition(".")[0] not in ALONE:
                return False
        return True
    at = line.find("import")
    while at >= 0:
        if not (line[at - 1 : at].isidentifier() or line[at + 6 : at + 7].isidentifier()):  # important is none
            return False
        at = line.find("import", at + 6)
    return True


def run_alone(main):
    if "collections.abc" in source:
        import collections.abc  # as asyncio would, which a script can do without that has only imported collections
    step, what = main.send, None
    try:
        while True:
            step(what)
            step, what = main.throw, RuntimeError("a script without an event loop waits for one")
    except StopIteration as e:
        return e.value
