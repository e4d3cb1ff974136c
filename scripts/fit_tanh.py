"""Fits the rational function that `jaxexp.models.tanh` is in float32: `python scripts/fit_tanh.py`.

tanh(x) = x P(x^2) / Q(x^2) on [0, 7.9], P and Q of degrees 3 and 4, their constants nearly 1: beyond,
tanh is 1 but for 3e-7. The largest relative error is made small by Lawson's iteration, least squares whose weights grow
where the error is large, each linear after division by the Q before.

Source: Lawson, Contributions to the Theory of Linear Least Maximum Approximation (1961); Sanathanan and Koerner,
Transfer function synthesis as a ratio of two complex polynomials, IEEE Trans. Automatic Control 8 (1963).
"""

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial, chebyshev

LARGEST, ABOVE, BELOW = 7.9, 3, 4
_POINTS, _ITERATIONS = 4000, 600


def fitted() -> tuple[float, np.ndarray, np.ndarray]:
    """Returns the largest relative error, and the coefficients of P and Q from the highest power to the constant."""
    x = LARGEST * (1 - np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS)) / 2
    wanted, square = np.tanh(x) / x, (x / LARGEST) ** 2
    basis = chebyshev.chebvander(2 * square - 1, max(ABOVE, BELOW))
    over, under = basis[:, : ABOVE + 1], basis[:, 1 : BELOW + 1]
    weights, divisor, best = np.ones_like(x), np.ones_like(x), (np.inf, np.empty(0))
    for _ in range(_ITERATIONS):
        scale = (np.sqrt(weights) / divisor / wanted)[:, None]
        columns = np.concatenate([scale * over, -scale * wanted[:, None] * under], axis=1)
        found = np.linalg.lstsq(columns, scale[:, 0] * wanted, rcond=None)[0]
        divisor = 1 + under @ found[ABOVE + 1 :]
        errors = np.abs(over @ found[: ABOVE + 1] / divisor / wanted - 1)
        best = min(best, (errors.max(), found), key=lambda pair: pair[0])
        weights *= np.sqrt(errors / errors.max() + 1e-9)
        weights /= weights.sum()
    error, found = best
    return error, _powers(found[: ABOVE + 1]), _powers(np.concatenate([[1.0], found[ABOVE + 1 :]]))


def _powers(series: np.ndarray) -> np.ndarray:
    """Coefficients in x^2 of a Chebyshev series over [0, LARGEST^2]."""
    return Chebyshev(series, domain=[0, LARGEST**2]).convert(kind=Polynomial, domain=[-1, 1]).coef[::-1]


def main() -> None:
    """Prints the coefficients, both divided by the constant of Q."""
    error, above, below = fitted()
    print(f"relative error {error:.2e}")
    for name, coefficients in (("above", above), ("below", below)):
        print(name, ", ".join(f"{value:.8e}" for value in coefficients / below[-1]))


if __name__ == "__main__":
    main()
