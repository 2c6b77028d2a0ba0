# close fd 1 and 2 (and the channel), go on for a while
# pass: host ends the run promptly or at the timeout, no busy loop, no panic
done("close_stdout")
for fd in chans(): os.close(fd)
time.sleep(1)
