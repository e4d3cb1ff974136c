"""jaxexp trains one experiment over thousands of (hyperparameters x seeds) as a few compiled programs."""

__version__ = "0.1.0"
