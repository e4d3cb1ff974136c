"""`python -m jaxexp` is `jaxexp`."""

from jaxexp.cli import main

if __name__ == "__main__":
    main()
