# start calls, then die at once while the host is still serving them
# pass: the host cancels downstream calls, does not block on the dead pipe
for i in range(1, 21): send(call(i, tool="slow"))
done("call_and_die"); time.sleep(0.3); os._exit(3)
