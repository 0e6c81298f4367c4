"""The blanks of notebook 1, filled in."""

from exercises import check


def noised(schedule, x_0, t, eps):
    """DDPM Eq. 4."""
    alpha_bar = schedule.at(schedule.alpha_bar, t, x_0)  # ᾱ_t, one for each image
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps


check("DDPM Eq. 4", noised)


def clean(schedule, x_t, t, eps):
    """DDPM Eq. 15: Eq. 4 solved for x_0."""
    alpha_bar = schedule.at(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()


check("DDPM Eq. 15", clean)


def mean_of_the_step_back(schedule, x_t, t, eps):
    """DDPM Eq. 11, with β_t = 1 − α_t."""
    alpha = schedule.at(schedule.alpha, t, x_t)  # α_t
    alpha_bar = schedule.at(schedule.alpha_bar, t, x_t)
    return (x_t - (1 - alpha) / (1 - alpha_bar).sqrt() * eps) / alpha.sqrt()


check("DDPM Eq. 11", mean_of_the_step_back)
