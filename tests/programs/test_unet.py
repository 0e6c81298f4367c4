"""The networks, and what a reader may put in."""

import pytest
import torch
from tiny import TINY, perturbed
from torch.testing import assert_close

from train.config import PRESETS
from unet import Judge, NoisyClassifier, UNet

SHAPES = {"digits": (1, 8), "mnist": (1, 28), "scenes": (1, 28), "cifar10": (3, 32)}


def preset_model(name, kind=UNet):
    config, (channels, size) = PRESETS[name], SHAPES[name]
    return kind(
        size=size,
        channels=channels,
        width=config.width,
        multipliers=config.multipliers,
        blocks=config.blocks,
        attention=config.attention,
        dropout=config.dropout,
    )


def batch(n=4, seed=0):
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(1, n + 1) * 200, torch.arange(n) % 4  # 3 is ∅


@pytest.mark.parametrize(("kind", "blocks"), [(UNet, 2), (NoisyClassifier, 1), (Judge, None)])
def test_without_arguments_a_network_is_one_for_mnist(kind, blocks):
    levels = {"multipliers": [1, 2, 2], "blocks": blocks, "attention": [7], "dropout": 0.0}
    images = {"size": 28, "channels": 1, "classes": 10, "width": 32}
    expected = {"name": kind.__name__, **images, **(levels if blocks else {})}
    assert kind().architecture == expected


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_every_preset_has_its_shape_and_size(name, kind):
    model, (channels, size) = preset_model(name, kind), SHAPES[name]
    x, t = torch.randn(2, channels, size, size), torch.tensor([1, 1000])
    out = model(x, t)
    assert out.shape == (x.shape if kind is UNet else (2, 10)) and out.dtype == torch.float32
    assert (out == 0).all()  # zero-initialised last layer
    if kind is UNet:
        parameters = sum(p.numel() for p in model.parameters())
        bounds = {"digits": (0, 1e6), "mnist": (1e6, 3e6), "cifar10": (6e6, 9e6)}
        low, high = bounds.get(name, (0, 3e5))
        assert low < parameters <= high


@pytest.mark.parametrize("width", [8, 24, 40, 136, 264])
def test_every_width_that_is_allowed_can_be_built(width):
    model = UNet(**{**TINY, "width": width, "multipliers": (1, 2)})
    assert model(torch.zeros(1, 1, 8, 8), torch.tensor([1])).shape == (1, 1, 8, 8)


def test_every_parameter_is_trained():
    """The rows of ∅ and of every class that occurs included; dropout left in."""
    model = perturbed(dropout=0.1).train()
    x, t, c = batch()
    model(x, t, c).square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
    assert (model.label.weight.grad.abs().sum(1) > 0).all()  # 0, 1, 2 and ∅ = 3
    model.zero_grad()
    model(x, t, torch.ones(4, dtype=torch.int64)).square().mean().backward()
    assert (model.label.weight.grad.abs().sum(1) > 0).tolist() == [False, True, False, False]


def test_every_parameter_of_the_classifier_is_trained():
    model = perturbed(NoisyClassifier)
    x, t, _ = batch()
    model(x, t).square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_time_and_class_change_the_answer():
    model = perturbed()
    x, t, c = batch()
    answer = model(x, t, c)
    assert not torch.allclose(answer, model(x, t + 1, c), atol=1e-5)
    for other in ((c + 1) % 4, (c + 2) % 4):
        difference = (answer - model(x, t, other)).abs().amax((1, 2, 3))
        assert (difference > 1e-4).all()
    classifier = perturbed(NoisyClassifier)
    assert not torch.allclose(classifier(x, t), classifier(x, t + 1), atol=1e-5)


def test_no_class_is_the_null_token():
    model = perturbed()
    x, t, _ = batch()
    assert model.null_token == 3 and model.label.weight.shape[0] == 4
    null = torch.full((4,), 3)
    assert torch.equal(model(x, t), model(x, t, null))
    assert not torch.allclose(model(x, t), model(x, t, null - 3), atol=1e-5)  # class 0 is a class


@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_an_image_does_not_see_its_neighbours(kind):
    model = perturbed(kind).double()
    x, t, c = batch()
    x = x.double()
    labels = (c,) if kind is UNet else ()
    together = model(x, t, *labels)
    for k in range(4):
        one = slice(k, k + 1)
        alone = model(x[one], t[one], *(c[one] for c in labels))
        assert_close(together[one], alone, rtol=0, atol=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = model(x[order], t[order], *(c[order] for c in labels))
    assert_close(shuffled, together[order], rtol=0, atol=1e-12)


def test_the_whole_image_is_seen():
    """Every output pixel of the U-Net depends on every input pixel (attention at the bottom)."""
    model = perturbed().double()
    x, t, c = batch(1)
    x = x.double().requires_grad_()
    (g,) = torch.autograd.grad(model(x, t, c)[0, 0, 0, 0], x)
    assert (g != 0).all()


def test_the_answer_has_the_images_type_under_autocast():
    model = perturbed()
    x, t, c = batch()
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x, t, c)
    assert low.dtype == torch.float32
    exact = model(x, t, c)
    assert (low - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 6, "multipliers": (1, 1, 1), "attention": ()}, "^size must be divisible by 4"),
        ({"size": 2, "multipliers": (1, 1, 1), "attention": ()}, "^size must be divisible by 4"),
        ({"width": 12}, "width a multiple of 8"),
        ({"width": 0}, r"^width must be an integer in 1\.\.4096, got 0"),
        ({"blocks": 0}, r"^blocks must be an integer in 1\.\.32, got 0"),
        ({"channels": 0}, r"^channels must be an integer in 1\.\.1024, got 0"),
        ({"multipliers": ()}, "^multipliers must not be empty"),
        ({"multipliers": (1, 0)}, r"^multipliers must be at most 8 integers in 1\.\.64"),
        ({"attention": (7,)}, r"^attention must name sides among \[8, 4\]"),
        ({"classes": 0}, "^classes must be"),
    ],
)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_networks_that_can_not_be_built(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**{**TINY, **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 8, 8)}, "^x_t must be a float batch"),
        ({"x": torch.zeros(2, 3, 8, 8)}, r"^x_t must be a float batch \(B, 1, 8, 8\)"),
        ({"x": torch.zeros(2, 1, 16, 16)}, "^x_t must be a float batch"),
        ({"x": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "^x_t must be a float batch"),
        ({"t": torch.tensor([1])}, "^t must hold one integer per image"),
        ({"t": torch.tensor([1.0, 2.0])}, "^t must hold one integer per image"),
        ({"c": torch.tensor([1])}, "^c must hold one integer per image"),
        ({"c": torch.tensor([1.0, 2.0])}, "^c must hold one integer per image"),
        ({"c": torch.tensor([0, 4])}, r"^c must lie in 0\.\.3 \(3 is ∅\)"),
        ({"c": torch.tensor([-1, 0])}, r"^c must lie in 0\.\.3"),
    ],
)
def test_bad_batches_are_named(arguments, message):
    call = {"x": torch.zeros(2, 1, 8, 8), "t": torch.tensor([1, 2]), **arguments}
    with pytest.raises(ValueError, match=message):
        UNet(**TINY)(call["x"], call["t"], call.get("c"))
    if "c" not in arguments:
        with pytest.raises(ValueError, match=message):
            NoisyClassifier(**TINY)(call["x"], call["t"])


@pytest.mark.parametrize("width", [8, 40, 104, 168])
def test_attention_fits_every_width(width):
    model = UNet(**{**TINY, "width": width, "attention": (8, 4)})
    assert model(torch.zeros(1, 1, 8, 8), torch.tensor([1])).shape == (1, 1, 8, 8)


def test_logits_are_float32_at_least():
    x, t = torch.zeros(1, 1, 8, 8, dtype=torch.bfloat16), torch.tensor([1])
    assert NoisyClassifier(**TINY).bfloat16()(x, t).dtype == torch.float32
