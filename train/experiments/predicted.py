"""What theory says of the exact worlds before anything is sampled: when, how parallel, how many.

Closed forms of our own, for Gaussians of variance s²; SNR = ᾱ_t/(1 − ᾱ_t), as everywhere here.
"""

import math

from scipy.special import ndtr, ndtri


def discriminability(separation: float, variance: float, log_snr: float) -> float:
    """d′ = √ᾱ·δ / √(ᾱ·s² + 1 − ᾱ) = δ / √(s² + 1/SNR)

    How many standard deviations of p_t lie between two Gaussians that are δ apart in the data and
    have the variance s². log_snr may be inf, which is clean data: δ/s.
    """
    return separation / math.sqrt(variance + math.exp(-log_snr))


def critical_log_snr(separation: float, variance: float, d: float = 2.0) -> float:
    """log-SNR* = −log(δ²/d² − s²), where d′ = d; inf if d′ never is, δ ≤ d·s.

    When does p_t(p₋|x_t) leave its prior π? Let p₋ be the second of two Gaussians. The log-ratio of
    two normal densities of one variance is linear in x_t, so logit p_t(p₋|x_t) is itself normal:
    N(logit π ± d′²/2, d′²), + for pictures of p₋ and − for the others. What is known of p₋ at t
    depends on π and d′ alone. At d′ = 2 the spread of the logit, 2, equals the distance of its
    two means from the prior's, half of the one bit of an even concept is told (0.486), and p_t of
    even weights gets its second hill. So set d′ = d in `discriminability` and solve for 1/SNR: the
    noise and s together have come down to δ/d.
    """
    left = (separation / d) ** 2 - variance
    return -math.log(left) if left > 0 else math.inf


def overlap_cosine(plus: float, minus: float, both: float) -> float:
    """The cosine of ε₊ − ε_∅ and ε₋ − ε_∅ at x_T, from P(p₊), P(p₋) and P(p₊ and p₋).

    ε_c − ε_∅ = Σ_m (p(m|x_t, c) − p(m|x_t))·ε_m, where the factors of ε_m sum to 0 and Gaussians
    of one variance have ε_m = κ·(x_t − √ᾱ·μ_m): only the means are left. Let each of two concepts
    have an axis of its own, on which having it is one unit. Then the differences are along
        a = (1 − P₊, P(p₋|p₊) − P₋),   b = (P(p₊|p₋) − P₊, 1 − P₋),
    and a·b = (P₊₋ − P₊·P₋)·((1 − P₊)/P₋ + (1 − P₋)/P₊): the sign of the covariance. At any other
    x_t the same holds with the posteriors given x_t, and as the likelihood is a product over the
    axes it leaves the odds ratio of the two as it is: the sign is the same at every x_t.
    """
    a = (1 - plus, both / plus - minus)
    b = (both / minus - plus, 1 - minus)
    return (a[0] * b[0] + a[1] * b[1]) / (math.hypot(*a) * math.hypot(*b))


def early_window(share: float, pull: float, log_snr: float) -> float:
    """Φ(Φ⁻¹(ρ) + pull·√SNR): how many fall into an outermost Gaussian of weight ρ on a line.

    While x_t tells nothing, x̂_0 of a label is its mean m. Guided, with p₊ = ∅, it is
    m_∅ − w·(m₋ − m_∅), and in y = x_t/√ᾱ a DDIM step towards a constant x̂_0 is exact: when p₋ is
    taken away at SNR, all of y has moved by w·(m₋ − m_∅), and y's noise has the width 1/√SNR. From
    there on the run is the plain one, which on a line keeps the order of its points: those end in
    the outermost Gaussian that now lie below its quantile. pull = w·(m₋ − m_∅) is counted towards
    it, so that it is negative if p₋ pushes the other way. Holds while p₋'s mean is not yet
    resolved into its modes, and 1/√SNR is wide beside the world.
    """
    return float(ndtr(ndtri(share) + pull * math.exp(log_snr / 2)))
