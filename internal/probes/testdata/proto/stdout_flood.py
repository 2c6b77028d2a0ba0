# 1 GiB of stdout through print and through os.write(1)
# pass: output truncated at the cap, sandbox blocked or killed, host memory flat
done("stdout_flood"); s = "B" * 65535
for i in range(16384):
    try: sys.stdout.write(s + "\n")
    except OSError: break
sys.stdout.flush()
