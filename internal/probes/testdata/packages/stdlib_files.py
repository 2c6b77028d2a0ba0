import tempfile, shutil, os, mmap, zipfile, tarfile, gzip, lzma, bz2, fcntl, select, time, pathlib, socket, signal, resource, ssl, hashlib, ctypes, zoneinfo, datetime, locale, platform, getpass, uuid, secrets
with tempfile.TemporaryDirectory() as d:
    p = pathlib.Path(d, "a"); p.write_text("x" * 100000); shutil.copy2(p, d + "/b"); os.link(p, d + "/c"); os.symlink(p, d + "/l")
    with open(p, "r+b") as f: mmap.mmap(f.fileno(), 0)[:3]; fcntl.flock(f, fcntl.LOCK_EX); os.fsync(f.fileno()); os.posix_fallocate(f.fileno(), 0, 200000); os.copy_file_range(f.fileno(), os.open(d + "/b", os.O_RDWR), 10)
    shutil.make_archive(d + "/z", "zip", d); os.utime(p); os.chmod(p, 0o600); os.truncate(p, 5); shutil.move(p, d + "/m")
    for m in (gzip, lzma, bz2): assert m.decompress(m.compress(b"x" * 1000)) == b"x" * 1000
e = select.epoll(); a, b = socket.socketpair(); e.register(a, select.EPOLLIN); b.send(b"x"); assert e.poll(1)
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()
os.sched_getaffinity(0); os.cpu_count(); os.getloadavg() if os.path.exists("/proc/loadavg") else 0; resource.getrusage(resource.RUSAGE_SELF); os.nice(1); os.urandom(8); uuid.uuid1(); uuid.uuid4(); getpass.getuser(); platform.platform(); os.getpriority(os.PRIO_PROCESS, 0)
ctypes.CDLL(None).getpid(); C = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1); assert C(1) == 2
datetime.datetime.now(zoneinfo.ZoneInfo("Asia/Tokyo")); shutil.get_terminal_size(); shutil.disk_usage("/tmp"); os.statvfs("/tmp")
os.eventfd(0); os.getrandom(4); time.clock_gettime(time.CLOCK_MONOTONIC); time.get_clock_info("monotonic")
"ok"
