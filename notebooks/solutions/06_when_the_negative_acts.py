"""The blanks of notebook 6, filled in."""

import math

from exercises import check


def apart(delta, s_squared, snr):
    """d′ of two Gaussians of variance s², δ apart, at SNR = ᾱ_t/(1 − ᾱ_t)."""
    return delta / math.sqrt(s_squared + 1 / snr)


check("d′", apart)


def critical(delta, s_squared, d):
    """The log-SNR at which d′ = d."""
    return -math.log(delta**2 / d**2 - s_squared)


check("log-SNR*", critical)
