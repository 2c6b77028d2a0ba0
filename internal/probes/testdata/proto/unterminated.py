# a frame that never ends, then sleep with the channel open
# pass: bounded buffer, wall-clock timeout still fires
done("unterminated"); send(b'{"type":"done","result":"' + b"A" * (1 << 20), [n for n in chans() if n > 2]); time.sleep(120)
