"""What the networks are trained on: their losses see what the papers say."""

import torch
from torch import nn
from torch.testing import assert_close

from ddpm import cosine_schedule
from train.config import Config
from train.data import load_data
from train.objectives import (
    classifier_loss,
    jitter,
    judge_loss,
    new_judge,
    new_networks,
    phases,
    unet_loss,
)
from unet import Judge


class Echo(nn.Module):
    """A model that remembers what it was given."""

    def __init__(self, K):
        super().__init__()
        self.null_token = K
        self.given = []

    def forward(self, x_t, t, c=None):
        self.given.append((x_t, t, c))
        return torch.zeros_like(x_t) if c is not None else torch.zeros(len(x_t), 10)


def test_the_network_is_trained_with_dropped_labels_and_all_t(schedule):
    model, n = Echo(10), 20_000
    generator = torch.Generator().manual_seed(0)
    c = torch.arange(n) % 10
    loss = unet_loss(schedule, Config(p_uncond=0.25))(model, torch.zeros(n, 1, 1, 1), c, generator)
    ((_, t, labels),) = model.given
    assert abs(loss.item() - 1) < 5 * (2 / n) ** 0.5
    dropped = labels == 10
    assert abs(dropped.double().mean() - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5
    assert torch.equal(labels[~dropped], c[~dropped])
    assert t.min() >= 1 and t.max() <= 1000


def test_the_classifier_is_trained_on_noised_images(schedule):
    model, n = Echo(10), 20_000
    y = torch.arange(n) % 10
    x_0 = torch.full((n, 1, 1, 1), 0.5)
    loss = classifier_loss(schedule)(model, x_0, y, torch.Generator().manual_seed(0))
    assert_close(loss.item(), torch.log(torch.tensor(10.0)).item())  # undecided: ln K
    ((x_t, t, _),) = model.given
    assert t.min() == 1 and t.max() == 1000 and abs(t.double().mean() - 500.5) < 5 * 289 / n**0.5
    alpha_bar = schedule.alpha_bar[t].float()
    z = (x_t.flatten() - alpha_bar.sqrt() * 0.5) / (1 - alpha_bar).sqrt()
    assert abs(z.mean()) < 5 / n**0.5 and abs(z.square().mean() - 1) < 5 * (2 / n) ** 0.5


def test_every_parameter_is_trained():
    torch.manual_seed(0)
    judge, x, c = Judge(size=8, width=4), torch.randn(6, 1, 8, 8), torch.arange(6)
    judge_loss(judge, x, c, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.parameters())


def test_jitter_moves_each_image_a_little():
    """A blob in the middle ends at most a 14th of the side away, each elsewhere, whole."""
    x = torch.full((200, 1, 28, 28), -1.0)
    x[:, :, 12:16, 12:16] = 1.0
    y = jitter(x, torch.Generator().manual_seed(0))
    assert torch.equal(y, jitter(x, torch.Generator().manual_seed(0)))
    mass = (y[:, 0] + 1) / 2
    place = torch.arange(28) + 0.5 - 14
    for dimension in (1, 2):
        centre = (mass.sum(dimension) * place).sum(1) / mass.sum((1, 2))
        assert 1.8 < centre.abs().max() < 2.2 / 0.9 and centre.std() > 0.9
    whole = mass.sum((1, 2)) / 16
    assert whole.min() > 0.8 and whole.max() < 1.25
    constant = torch.full((4, 3, 8, 8), 0.3)
    assert torch.allclose(jitter(constant, torch.Generator().manual_seed(1)), constant, atol=1e-6)


def test_jitter_turns_both_ways():
    x = torch.full((300, 1, 29, 29), -1.0)
    x[:, :, 14, 4:25] = 1.0  # a level bar
    mass = (jitter(x, torch.Generator().manual_seed(0))[:, 0] + 1) / 2
    place = torch.arange(29.0)
    left, right = (
        (m * place[:, None]).sum((1, 2)) / m.sum((1, 2)) for m in mass.split([14, 15], 2)
    )
    assert (right - left > 0.5).any() and (left - right > 0.5).any()


def test_the_phases_are_what_the_flags_ask_for():
    data, schedule = load_data("digits", ""), cosine_schedule()

    def found(**changes):
        config = Config(width=8, steps=7, classifier_steps=5, judge_steps=3, **changes)
        networks = new_networks(config, data)
        return list(phases(*networks, config, data, schedule))

    assert [(name, steps) for name, *_, steps in found()] == [
        ("unet", 7),
        ("classifier", 5),
        ("judge", 3),
    ]
    for phases_of_a_kind in zip(found(), found(), found(seed=1), strict=True):
        one, same, other = (next(network.parameters()) for _, network, *_ in phases_of_a_kind)
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_new_judge_depends_on_the_seed_alone():
    data = load_data("digits", "")
    torch.manual_seed(7)
    one = new_judge(data, Config(judge_width=4))
    torch.rand(5)
    assert torch.equal(one.head.weight, new_judge(data, Config(judge_width=4)).head.weight)
    other = new_judge(data, Config(judge_width=4, seed=1))
    assert not torch.equal(one.head.weight, other.head.weight)
