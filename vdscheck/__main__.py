"""The program: signal handlers first, everything else after them."""

import errno
import os
import sys


def _leave_current_folder() -> None:
    """Import nothing from the folder that the program is started in: its owner's code would run as the caller.

    `python -m` puts that folder first, and a relative or empty part of PYTHONPATH (a colon too many) names it.
    """
    try:
        current = os.getcwd()
        if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] == [current]:
            del sys.path[0]
        variable = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
        parts = variable.split(os.pathsep) if variable else []
        kept = {os.path.abspath(part) for part in parts if os.path.isabs(part)}
        left = {os.path.abspath(part) for part in parts} - kept
        sys.path[:] = [folder for folder in sys.path if folder not in left]
    except OSError:
        # It is gone; or it is there and too deep below one that may not be read, which libraries do not expect.
        sys.path[:] = [folder for folder in sys.path if os.path.isabs(folder)]
        os.getcwd = _no_current_folder


def _no_current_folder() -> str:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


_leave_current_folder()
# A run changes nothing, and where a disk is full or files are limited Python leaves half a compiled module, by which
# every later start fails: what is compiled is compiled at the installation.
sys.dont_write_bytecode = True

# Ctrl-C must give a valid report from the first moment on, so nothing else is imported before the
# handlers stand. Those above are part of the interpreter itself.
import signal  # noqa: E402 - only now is it sure to be the standard library's

ENDING = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
    *(signal.SIGABRT, signal.SIGALRM, signal.SIGIO, signal.SIGPROF, signal.SIGPWR, signal.SIGSTKFLT, signal.SIGVTALRM),
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
"""Each of them ends a program that does not expect it, and would leave a change unverified."""

_received: list[int] = []
_received_at_s: list[float] = []
SAME_INTERRUPTION_S = 1.0
"""`timeout`, service managers and shells signal a process and its group as well: that is one interruption."""


def _receive(number: int, _frame: object) -> None:
    """Note the first signal; a later one ends the program at once.

    But not SIGHUP: the shell, the terminal and the session manager each send it when a session falls apart,
    in their own time, and what is given back then is to be given back.
    """
    now_s = os.times().elapsed
    # Python may run this once more between any two instructions of it: what is asked for first is noted first.
    if _received_at_s and now_s - _received_at_s[0] > SAME_INTERRUPTION_S and number != signal.SIGHUP:
        _say_what_stands()
        os._exit(128 + number)
    _received_at_s.append(now_s)
    _received.append(number)


def _say_what_stands() -> None:
    """Where a fix stands that was begun, by nothing that would have to be imported."""
    found, polls = sys.modules.get("vdscheck.process.standing"), sys.modules.get("select")
    line = "" if found is None else found.line()
    try:
        if line and polls is not None and polls.select([], [2], [], 0)[1]:  # who reads nothing is not waited for
            os.write(2, f"vdscheck: {line}\n".encode("ascii", "backslashreplace"))
    except (OSError, ValueError):
        return


def _open_standard_streams() -> None:
    """See that a stream that was closed is not taken for the next file that is opened: here writing to it fails."""
    from vdscheck.process import nowhere

    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            try:
                os.open(os.devnull, os.O_RDONLY)
            except OSError:
                nowhere.opened()


LEAST_ADDRESS_SPACE_BYTES = 30 << 20
"""What a passive run takes; with less, memory may end anywhere, and where Python itself needs some it aborts."""


def _want_address_space() -> None:
    """Raise MemoryError where the limit of memory (ulimit -v) leaves too little to begin with."""
    import resource

    try:
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
    except OSError:  # a filter of system calls refuses it
        return
    if most != resource.RLIM_INFINITY and most < LEAST_ADDRESS_SPACE_BYTES:
        raise MemoryError


def main() -> None:
    """Run the program and exit with its code."""
    for number in ENDING:
        # Whoever started us with a signal ignored (nohup, a background job of a script) meant it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    os._exit(_ended())


def _ended() -> int:
    """The exit code of the program; 4 and one line where it cannot even start, whatever is missing or too small."""
    try:
        _open_standard_streams()
        _want_address_space()
        import gc

        # A run is short and makes few cycles: collecting while it imports costs a tenth of its time.
        gc.disable()
        from vdscheck.cli.app import program

        return program(_received)
    except BaseException as error:  # noqa: BLE001 - an import of a broken installation raises anything, SystemExit too
        _say_failure(error)
        return 128 + _received[0] if _received else 4


def _say_failure(error: BaseException) -> None:
    """One line on standard error, by the least that can be imported: memory or descriptors may be what is missing."""
    from contextlib import suppress

    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    # Its own text is not repeated, but for an import: whatever raised it may have had a secret in its hands.
    said = type(error).__name__
    if isinstance(error, ImportError):
        said = " ".join(f"{said}: {error}; install vdscheck again".split())
    elif isinstance(error, MemoryError):
        said = "the limit of memory stopped the program; raise it and run again"
    elif last is not None:
        said += f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    with suppress(Exception):
        from vdscheck.process.limits import limit_of

        limit = limit_of(error)
        said = said if limit is None else f"{limit} stopped the program; raise it and run again"
    with suppress(OSError):
        os.write(2, f"vdscheck: no report: {said}\n".encode("utf-8", "backslashreplace"))
    _say_what_stands()


if __name__ == "__main__":
    main()
