# SIGKILL/SIGABRT the runner, exit code 137/255 games
# pass: signal reported; not mistaken for an OOM or a timeout
import signal
done("sigkill_self"); os.kill(os.getpid(), signal.SIGKILL); os.abort()
