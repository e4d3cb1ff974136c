"""How fast jaxexp trains, beside hand-written JAX and other frameworks; README.md says how to run it."""
