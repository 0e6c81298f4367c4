"""The blanks of notebook 3, filled in."""

from exercises import check


def score(x, mean, variance, weight):
    """∇log Σ_m π_m·N(x; mean_m, variance·I): x (B, D), mean (M, D), weight (M,). Returns (B, D)."""
    way = mean - x[:, None]  # (B, M, D), from x to each mean
    log_p = weight.log() - way.square().sum(2) / (2 * variance)  # (B, M), up to a constant
    p = log_p.softmax(1)[:, :, None]  # p(m|x), (B, M, 1)
    return (p * way / variance).sum(1)


check("ADM Eq. 11", score)


def pulled(eps, g, s, alpha_bar):
    """ADM Eq. 14, with g = ∇log p(y|x_t)."""
    return eps - s * (1 - alpha_bar).sqrt() * g


check("ADM Eq. 14", pulled)
