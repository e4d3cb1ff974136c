"""Other frameworks, and C, on W1 and W3: `python -m benchmarks.peers NAME`, which `__main__.py` describes.

A module here imports its framework and nothing of jaxexp: it runs in that framework's virtual environment.
"""
