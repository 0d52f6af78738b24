"""The program: signal handlers first, everything else after them."""

# Ctrl-C must give a valid report from the first moment on, so nothing else is imported before the
# handlers stand.
import os
import signal

_received: list[int] = []


def _receive(number: int, _frame: object) -> None:
    """Note the first signal; the second one ends the program at once."""
    if _received:
        os._exit(128 + number)
    _received.append(number)


def main() -> None:
    """Run the program and exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Whoever started us with a signal ignored (nohup, a background job of a script) meant it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    import gc

    # A run is short and makes few cycles: collecting while it imports costs a tenth of its time.
    gc.disable()
    from vdscheck.cli import program

    os._exit(program(_received))


if __name__ == "__main__":
    main()
