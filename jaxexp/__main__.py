"""`python -m jaxexp` is `jaxexp`."""

from jaxexp import signals


def main() -> None:
    """Runs the command line."""
    signals.listen()
    from jaxexp import cli  # from here on it takes a moment

    cli.main()


if __name__ == "__main__":
    main()
