"""float16 with its loss scaling, and a batch in parts: the same step by other roads."""

import copy

import pytest
import torch
from helpers import Line, at_call, line_config, line_data, line_loss
from torch.testing import assert_close

from ddpm import linear_schedule, q_sample
from train.__main__ import main
from train.config import Config
from train.data import Dataset
from train.loop import Diverged, fit
from train.training import Training
from unet import UNet

CPU = torch.device("cpu")


def scaled(**changes):
    return Training(Line(), line_config(precision="float16", **changes), CPU, 20)


def test_scaling_changes_neither_the_loss_nor_the_step():
    """A multiplication by y = a·x is no autocast operator: both compute it in float32."""
    one, two = scaled(), Training(Line(), line_config(precision="float32"), CPU, 20)
    for _ in range(5):
        a, b = one.update(line_loss, line_data()), two.update(line_loss, line_data())
        assert torch.equal(a, b) and torch.equal(one.model.a.grad, two.model.a.grad)
        assert torch.equal(one.model.a, two.model.a)
    assert one.scaler.get_scale() == 65536 and not two.scaler.is_enabled()


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_skips_its_step(bad):
    class Break(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * bad

    training, loss = scaled(), at_call(3, Break.apply)
    for step in range(1, 6):
        before = training.model.a.item()
        value = training.update(loss, line_data())
        assert torch.isfinite(value) and (training.model.a.item() == before) == (step == 3)
    assert training.scaler.get_scale() == 32768 and torch.isfinite(training.averaged.a)


def test_gradients_that_are_never_finite_end_the_run():
    """The scale falls from 2¹⁶ to below 1 in 17 steps, and the loss is finite all the while."""

    class Break(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g * float("nan")

    def loss(*arguments):
        return Break.apply(line_loss(*arguments))

    with pytest.raises(Diverged, match="not finite before step 20"):
        fit("x", Line(), loss, line_data(), line_config(precision="float16"), 40)


def test_the_scale_is_part_of_the_state():
    one, two = scaled(), scaled()
    one.update(at_call(1, lambda value: value * 1e36), line_data())  # beyond float32, scaled
    assert one.scaler.get_scale() == 32768
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for training in (one, two):
        training.update(line_loss, line_data())
    assert two.scaler.get_scale() == 32768 and torch.equal(one.model.a, two.model.a)


def test_the_network_computes_in_float16():
    seen = []

    class Product(Line):
        def forward(self, x):
            y = x.flatten(1) @ self.a[None]
            seen.append(y.dtype)
            return y[:, :, None, None]

    config = line_config(precision="float16")
    Training(Product(), config, CPU, 20).update(line_loss, line_data())
    assert seen == [torch.float16]


# -- a batch in parts ------------------------------------------------------------------------------


def gradient(accumulate):
    """That of a step in float64, and the images, labels, times and noise that it has seen."""
    torch.manual_seed(3)
    shape = {"size": 8, "channels": 1, "classes": 10, "width": 8, "blocks": 1}
    model = UNet(**shape, attention=(4,)).double()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    x, c = images.to(torch.uint8), torch.arange(40) % 10
    data, drawn = Dataset("x", x, c, x, c, [str(k) for k in range(10)]), []

    def loss(model, x_0, c, generator):
        """t and ε are functions of the image: the same however the batch is cut."""
        drawn.append(x_0)
        t = 1 + (1000 * (x_0.double().flatten(1).mean(1) + 1) / 2).long().clamp(0, 999)
        eps = torch.sin(1e3 * x_0.double())
        x_t = q_sample(linear_schedule(), x_0.double(), t, eps)
        return (model(x_t, t, c) - eps).square().mean()

    config = Config(batch_size=12, accumulate=accumulate, grad_clip=1e9)
    training = Training(model, config, CPU, 10)
    value = training.update(loss, data)
    return value, [p.grad for p in model.parameters()], drawn


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_the_gradient_of_the_parts_is_that_of_the_batch(parts):
    (value, whole, (images,)), (mean, grads, drawn) = gradient(1), gradient(parts)
    assert [len(x) for x in drawn] == [12 // parts] * parts and torch.equal(
        torch.cat(drawn), images
    )
    assert_close(mean, value, rtol=0, atol=1e-12 * float(value))
    norm = torch.stack([g.norm() for g in whole]).norm()
    for one, two in zip(whole, grads, strict=True):
        assert_close(two, one, rtol=0, atol=1e-12 * float(norm))


def test_parts_are_equal(tmp_path, capsys):
    assert main(["--accumulate", "3", "--out", str(tmp_path / "r")]) == 2
    assert "--batch-size must be divisible by --accumulate 3, got 64" in capsys.readouterr().err
    with pytest.raises(ValueError, match="divisible by --accumulate 3, got 4"):
        scaled(batch_size=4, accumulate=3)
