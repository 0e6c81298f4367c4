"""`draw`: what a picture is made of is its seed and its place, and nothing else."""

from functools import partial

import pytest
import torch
from tiny import perturbed
from torch.testing import assert_close

from ddpm import ancestral, ddim, linear_schedule
from guidance.app import guides
from guidance.app.draw import draw, stream_seed
from guidance.app.models import Models
from unet import UNet

N, S, SEED = 20, 5, 3
C = torch.arange(N) % 4
NOISY = [partial(ddim, steps=S, eta=0.7), partial(ancestral, steps=S, variance="posterior")]
EVERY = [partial(ddim, steps=S), *NOISY]


@pytest.fixture(scope="module")
def models():
    schedule = linear_schedule(100, beta_T=0.2)
    return Models(perturbed(UNet), None, schedule, ["ant", "bee", "cat"], {})


def exact(models, c):
    """A predictor without a sum over anything, so that it rounds the same in every batch."""
    return lambda x_t, t: x_t * (0.2 + 0.1 * c.view(-1, 1, 1, 1)) + t.view(-1, 1, 1, 1) / 100


@pytest.mark.parametrize("sampler", EVERY)
@pytest.mark.parametrize("batch_size", [1, 3, N])
def test_samples_do_not_depend_on_the_batch_size(models, sampler, batch_size):
    """Bit for bit; a network's are the same but for what it rounds."""
    whole = draw(models, exact, C, SEED, sampler=sampler)
    assert torch.equal(draw(models, exact, C, SEED, sampler=sampler, batch_size=batch_size), whole)
    unet = guides.classifier_free(1.0)
    whole = draw(models, unet, C, SEED, sampler=sampler)
    parts = draw(models, unet, C, SEED, sampler=sampler, batch_size=batch_size)
    assert_close(parts, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", EVERY)
def test_some_pictures_are_what_they_are_among_all(models, sampler):
    """Picture 17 alone; every m-th from the k-th on, as m processes share the work; any order."""
    whole = draw(models, exact, C, SEED, sampler=sampler)
    some = partial(draw, models, exact, C, SEED, sampler=sampler, batch_size=3)
    assert torch.equal(some(only=[17]), whole[17:18])
    assert torch.equal(some(only=slice(17, 18)), whole[17:18])
    for m in (2, 3, 7):
        for k in range(m):
            assert torch.equal(some(only=slice(k, None, m)), whole[k::m])
    for places in ([19, 0, 4, 4], torch.tensor([19, 0, 4, 4]), range(5, 1, -1)):
        assert torch.equal(some(only=places), whole[torch.as_tensor(places)])
    assert some(only=slice(5, 5)).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("sampler", EVERY)
def test_picture_17_from_ddpm_alone(models, sampler):
    """x_T is one stream of the seed; the sampler's noise for picture i a stream of its own."""
    x_T = torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(SEED))
    own = torch.Generator().manual_seed(stream_seed(SEED, 18))
    *_, last = sampler(models.schedule, exact(models, C[17:18]), x_T[17:18], generator=own)
    assert torch.equal(draw(models, exact, C, SEED, sampler=sampler)[17:18], last.x)


@pytest.mark.parametrize("sampler", NOISY)
def test_no_two_pictures_share_their_noise(models, sampler, monkeypatch):
    """Neither in one grid nor in that of the next seed, though here they share x_T and class."""
    monkeypatch.setattr(Models, "noise", lambda self, n, generator: torch.zeros(n, 1, 8, 8))
    still = lambda models, c: lambda x_t, t: torch.zeros_like(x_t)  # noqa: E731
    sampler = partial(sampler, clip=None)  # then a sample is the sum of its noise
    x = torch.cat([draw(models, still, C, seed, sampler=sampler) for seed in (0, 1)]).flatten(1)
    close = torch.corrcoef(x).fill_diagonal_(0).abs().max()
    assert close < 5.5 / x.shape[1] ** 0.5 < 1


@pytest.mark.parametrize(
    "only", [[20], [-1], [], [0.5], [True], 3, "1", None, torch.tensor([0, 99]), {"a": 1}]
)
def test_pictures_that_are_not_there_are_named(models, only):
    with pytest.raises(ValueError, match=r"^only must be a slice or places in 0\.\.19, got"):
        draw(models, exact, C, SEED, only=only)


def trained_with(models, p_uncond):
    return models._replace(info={"config": {"p_uncond": p_uncond}}, classifier=lambda x, t: x[:, 0])


NEEDS_NULL = {
    "∅": (guides.none(), 3),
    "classifier-free": (guides.classifier_free(1.0), 1),
    "classifier on ∅": (guides.classifier(1.0), 1),
    "negative": (guides.negative(2, 1.0), 1),
    "posterior": (guides.posterior_negative(2), 1),
}
NEEDS_CLASSES = {
    "class": (guides.none(), 1),
    "classifier-free": (guides.classifier_free(1.0), 1),
    "w = 0": (guides.classifier_free(0.0), 1),
    "classifier": (guides.classifier(1.0, conditional=True), 1),
    "negative": (guides.negative(2, 1.0), 3),
    "posterior": (guides.posterior_negative(2), 3),
}


@pytest.mark.parametrize("name", NEEDS_NULL)
def test_what_nothing_has_trained_the_null_for_is_refused(models, name):
    guide, c = NEEDS_NULL[name]
    for labels in (torch.full((4,), c), torch.tensor([1, 1, 1, c])):
        with pytest.raises(ValueError, match="^these weights know no ∅.*p_uncond = 0$"):
            guide(trained_with(models, 0.0), labels)
        for p_uncond in (0.1, 1e-9, None):
            guide(trained_with(models, p_uncond), labels)
    one = torch.tensor([1, 2])
    for guide in (
        guides.none(),
        guides.classifier_free(0.0),
        guides.classifier(1, conditional=True),
    ):
        guide(trained_with(models, 0), one)


@pytest.mark.parametrize("name", NEEDS_CLASSES)
def test_what_nothing_has_trained_the_classes_for_is_refused(models, name):
    guide, c = NEEDS_CLASSES[name]
    with pytest.raises(ValueError, match="^these weights know no class, only ∅.*p_uncond = 1$"):
        guide(trained_with(models, 1.0), torch.full((4,), c))
    guides.none()(trained_with(models, 1), torch.full((4,), 3))
    guides.classifier(1.0)(trained_with(models, 1), torch.full((4,), 1))


def test_the_progress_bar_counts_the_pictures_that_are_drawn(models, monkeypatch):
    totals, seen = [], []

    class Bar:
        def __init__(self, total, **_):
            totals.append(total)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n):
            seen.append(n)

    monkeypatch.setattr("guidance.app.draw.tqdm", Bar)
    draw(models, exact, C, SEED, sampler=EVERY[0], batch_size=3, only=slice(1, None, 4))
    assert totals == [5] and seen == [3, 2]
