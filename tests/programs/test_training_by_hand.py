"""Training as the papers' formulas say, beside `Training.update`: in float64, after every step.

The other road has no torch.optim, no autograd and no network: a vector θ of all weights, and the
gradients of three linear models written out. It shares the generator's numbers alone, so that each
has to be drawn in its turn: which images, which labels are dropped, t, ε.
"""

import math

import pytest
import torch
from helpers import rate
from torch import nn
from torch.testing import assert_close

from ddpm import Schedule
from train.config import Config
from train.data import Dataset
from train.objectives import classifier_loss, judge_loss, unet_loss
from train.training import Training

SCHEDULE = Schedule([0.1, 0.2, 0.4, 0.6])
ALPHA_BAR = torch.tensor([1, 0.9, 0.72, 0.432, 0.1728], dtype=torch.float64)  # ᾱ_0 … ᾱ_4
T, K, SIDE = 4, 3, 3
STEPS = 9
CONFIG = {"lr": 0.1, "warmup": 3, "weight_decay": 0.2, "ema": 0.35, "p_uncond": 0.4, "seed": 7}


class InDouble(Dataset):
    def scale(self, images):
        return super().scale(images).double()


IMAGES = torch.randint(0, 17, (8, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
DATA = InDouble("x", IMAGES.byte(), LABELS, IMAGES, LABELS, ["a", "b", "c"], levels=17)


# -- three linear models, and their gradients by hand ----------------------------------------------


class EpsTheta(nn.Module):
    """ε̂ = a·x_t + b_c + d·t."""

    null_token = K

    def __init__(self):
        super().__init__()
        self.a, self.b, self.d = parameters(1, K + 1, 1)

    def forward(self, x_t, t, c):
        return self.a * x_t + (self.b[c] + self.d * t)[:, None, None, None]


class Logits(nn.Module):
    """W·x + u·t, of the classifier; with t = 1, of the judge."""

    def __init__(self):
        super().__init__()
        self.W, self.u = parameters(K * SIDE**2, K)

    def forward(self, x, t=None):
        t = torch.ones(len(x)) if t is None else t
        return x.flatten(1) @ self.W.view(K, -1).T + t[:, None] * self.u


def parameters(*sizes):
    draw = torch.Generator().manual_seed(2)
    return (nn.Parameter(torch.randn(n, generator=draw, dtype=torch.float64)) for n in sizes)


def noised(x_0, draw):
    """DDPM Eq. 4, Alg. 1: t ~ U{1, …, T}, then ε ~ N(0, I), of each image."""
    t = torch.randint(1, T + 1, (len(x_0),), generator=draw)
    eps = torch.randn(x_0.shape, generator=draw, dtype=torch.float64)
    alpha_bar = ALPHA_BAR[t].view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps, t, eps


def eps_theta(theta, x_0, c, draw):
    """L = mean (ε̂ − ε)² and ∇L (DDPM Eq. 14), with labels dropped to ∅ (CFG Alg. 1)."""
    c = torch.where(torch.rand(len(c), generator=draw) < CONFIG["p_uncond"], K, c)
    x_t, t, eps = noised(x_0, draw)
    a, b, d = theta.split([1, K + 1, 1])
    error = a * x_t + (b[c] + d * t).view(-1, 1, 1, 1) - eps
    slope = 2 * error / error.numel()  # ∂L/∂ε̂
    of_image = slope.sum((1, 2, 3))
    in_b = [of_image[c == k].sum() for k in range(K + 1)]
    return error.square().mean(), torch.stack([(slope * x_t).sum(), *in_b, (of_image * t).sum()])


def cross_entropy(theta, x, t, y):
    """L = −mean log p_y with p = softmax(W·x + u·t), whose slope in the logits is p − 1_y."""
    x, t, W, u = x.flatten(1), t.double(), theta[:-K].view(K, -1), theta[-K:]
    odds = (x @ W.T + torch.outer(t, u)).exp()  # (B, K)
    p, target = odds / odds.sum(1, keepdim=True), torch.eye(K, dtype=torch.float64)[y]
    slope = (p - target) / len(y)
    return -(p * target).sum(1).log().mean(), torch.cat([(slope.T @ x).flatten(), slope.T @ t])


def p_phi(theta, x_0, y, draw):
    """−log p(y|x_t) on noised images: ADM Sec. 4.3."""
    x_t, t, _ = noised(x_0, draw)
    return cross_entropy(theta, x_t, t, y)


def judge(theta, x_0, y, draw):
    """−log p(y|x) on clean images, turned by up to 10°, scaled by up to 10 %, shifted by a 14th.

    A pixel is what lies at another place of the image: the mean of the four around it (each with
    what of 1 the distance leaves), and beyond the border, the border.
    """
    u = 2 * torch.rand(4, len(x_0), generator=draw, dtype=torch.float64)[..., None, None] - 1
    cos, sin = ((1 + u[1] / 10) * f(u[0] * math.pi / 18) for f in (torch.cos, torch.sin))
    pixels, middle = torch.arange(SIDE).double(), (SIDE - 1) / 2
    right, down = pixels - middle, (pixels - middle)[:, None]
    column = middle + cos * right - sin * down + u[2] * SIDE / 14  # (B, SIDE, SIDE)
    row = middle + sin * right + cos * down + u[3] * SIDE / 14
    places = [place.clamp(0, SIDE - 1)[..., None] for place in (row, column)]
    near = [(1 - (place - pixels).abs()).clamp(min=0) for place in places]
    moved = torch.einsum("bijr,bijc,bnrc->bnij", *near, x_0)
    return cross_entropy(theta, moved, torch.ones(len(x_0)), y)


NETWORKS = {  # the model, its loss, the same by hand; and a norm that some gradients are above
    "unet": (EpsTheta, unet_loss(SCHEDULE, Config(**CONFIG)), eps_theta, 3.0),
    "classifier": (Logits, classifier_loss(SCHEDULE), p_phi, 1.5),
    "judge": (Logits, judge_loss, judge, 1.0),
}


# -- training --------------------------------------------------------------------------------------


def by_hand(theta, gradient, config):
    """(L, ‖∇L‖, θ, its average) after each step."""
    draw = torch.Generator().manual_seed(config.seed)
    m = v = averaged = torch.zeros_like(theta)
    size = config.batch_size // config.accumulate
    for n in range(1, STEPS + 1):
        i = torch.randint(len(IMAGES), (config.batch_size,), generator=draw)
        parts = [
            gradient(theta, IMAGES[k].double() / 8 - 1, LABELS[k], draw) for k in i.split(size)
        ]
        loss, g = (sum(values) / config.accumulate for values in zip(*parts, strict=True))

        # Pascanu et al. 2013, Alg. 1; torch adds 1e-6
        norm = g.square().sum().sqrt()
        if norm > config.grad_clip:
            g = g * config.grad_clip / (norm + 1e-6)

        # AdamW, Loshchilov & Hutter 2019, Alg. 2: the decay of θ goes past m and v
        lr = rate(n, STEPS, config.lr, config.warmup)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**n), v / (1 - 0.999**n)
        theta = theta - lr * (m_hat / (v_hat.sqrt() + 1e-8) + config.weight_decay * theta)

        # DDPM App. B averages the weights; here n − 1 earlier steps count (1 + n − 1)/(10 + n − 1)
        decay = min(config.ema, n / (9 + n)) if n > 1 else 0
        averaged = decay * averaged + (1 - decay) * theta
        yield loss, norm, theta, averaged


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_what_the_formulas_say(name, accumulate):
    """To the rounding of float64: 2e-15 in these nine steps."""
    kind, loss, gradient, clip = NETWORKS[name]
    sizes = {"batch_size": 6, "accumulate": accumulate, "grad_clip": clip}
    config = Config(**CONFIG, **sizes, precision="float32")
    training, norms = Training(kind(), config, torch.device("cpu"), STEPS), []
    for L, norm, theta, averaged in by_hand(vector(kind()), gradient, config):
        assert_close(training.update(loss, DATA), L, rtol=0, atol=1e-13)
        assert_close(vector(training.model), theta, rtol=0, atol=1e-13)
        assert_close(vector(training.averaged), averaged, rtol=0, atol=1e-13)
        norms.append(float(norm))
    assert min(norms) < 0.9 * clip and max(norms) > 1.1 * clip, norms
