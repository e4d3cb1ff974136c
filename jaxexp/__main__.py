"""`python -m jaxexp` is `jaxexp`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback before `signals` listens, which takes a moment

from jaxexp import signals


def main() -> None:
    """Runs the command line."""
    signals.listen()
    from jaxexp import cli  # from here on it takes a moment

    cli.main()


if __name__ == "__main__":
    main()
