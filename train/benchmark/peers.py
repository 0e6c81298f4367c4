"""The benchmark's contenders: this project, diffusers and lucidrains, at the same work an image.

Each peer is built and trained as its own examples do it, in the precision that is its default and
also in ours. Widths are searched so that a forward pass costs as many FLOPs as ours.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ddpm import linear_schedule
from guidance.models import Models
from guidance.sampling import Request, Sampler, draw
from train import objectives
from train.config import Config
from train.data import Dataset
from train.hardware import autocast_dtype, compile_network
from train.loop import train_step, training_parts
from unet import UNet

W = 1.0  # of the guided samples


class Contender(NamedTuple):
    """What is timed: a training step of one batch, and n guided samples in 50 DDIM steps."""

    name: str
    flops: int  # of a forward pass, for each image
    parameters: int
    step: Callable[[], Any]
    sample: Callable[..., Tensor]


def ours(data: Dataset, config: Config, name: str = "this project") -> Contender:
    """This project, by the step that `python -m train` repeats."""
    device = data.images.device
    torch.manual_seed(0)
    model = our_unet(data, config)
    schedule = linear_schedule(config.T)
    parts = training_parts(model, config, device, 10_000)
    loss = objectives.unet_loss(schedule, config)
    generator = torch.Generator(device).manual_seed(0)
    step = train_step(loss, data, config, parts, generator)
    network = parts["ema"].module.eval()
    compile_network(network, config.compile, device)
    models = Models(network, None, schedule, data.classes, {})
    dtype = autocast_dtype(config.precision, device)

    def sample(n: int, S: int = 50) -> Tensor:
        c = torch.arange(n) % len(data.classes)
        request = Request("classifier-free", 0, w=W)
        return draw(models, request, Sampler(steps=S), c, 0, batch_size=n, dtype=dtype)

    cost = forward_flops(data, our_unet(data, config))  # of one that is not compiled
    return Contender(name, cost, _parameters(model), step, sample)


def our_unet(data: Dataset, config: Config) -> UNet:
    """The U-Net of a preset, on the data's device."""
    _, channels, size, _ = data.images.shape
    names = ("width", "multipliers", "blocks", "attention", "dropout")
    shape = {name: getattr(config, name) for name in names}
    return UNet(size, channels, len(data.classes), **shape).to(data.images.device)


def diffusers(data: Dataset, config: Config, precision: str, target: int) -> Contender:
    """diffusers' UNet2DModel with its DDPM and DDIM schedulers, as its unconditional example."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    device, K = data.images.device, len(data.classes)
    _, channels, size, _ = data.images.shape
    sides = [size // 2**level for level in range(len(config.multipliers))]
    attends = [side in config.attention for side in sides]

    def build(width: int, multipliers: tuple[int, ...]) -> Any:
        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=config.blocks,
            block_out_channels=[width * m for m in multipliers],
            down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
            up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
            norm_num_groups=8,
            dropout=config.dropout,
            num_class_embeds=K + 1,
        )

    def call(model: Any, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return model(x, t - 1, class_labels=c).sample

    model, cost = _nearest(build, call, data, config, target)
    noises: Any = DDPMScheduler(config.T)
    ddim: Any = DDIMScheduler(config.T)
    ema = EMAModel(model.parameters(), decay=config.ema)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator(device).manual_seed(0)
    dtype = autocast_dtype(precision, device)

    def step() -> None:
        x_0, c = data.batch(config.batch_size, generator)
        noise = torch.randn_like(x_0)
        t = torch.randint(0, config.T, c.shape, device=device)
        c = torch.where(torch.rand(c.shape, device=device) < config.p_uncond, K, c)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            out = model(noises.add_noise(x_0, noise, t), t, class_labels=c).sample
            loss = F.mse_loss(out.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(model.parameters())

    @torch.no_grad()
    def sample(n: int) -> Tensor:
        ddim.set_timesteps(50)
        x = torch.randn(n, channels, size, size, device=device)
        c = torch.cat([torch.full((n,), K), torch.arange(n) % K]).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            for t in ddim.timesteps:
                null, guided = model(torch.cat([x, x]), t, class_labels=c).sample.float().chunk(2)
                x = ddim.step(null + (1 + W) * (guided - null), t, x).prev_sample
        return x

    return Contender(f"diffusers, {precision}", cost, _parameters(model), step, sample)


def lucidrains(data: Dataset, config: Config, precision: str, target: int) -> Contender:
    """lucidrains' classifier-free-guidance Unet and GaussianDiffusion, as its Trainer has it.

    Its sampler takes the part of the guidance that is parallel to ε(c) out, at a small cost.
    """
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    device, K = data.images.device, len(data.classes)
    _, channels, size, _ = data.images.shape

    def build(width: int, multipliers: tuple[int, ...]) -> Any:
        return Unet(
            width, K, cond_drop_prob=config.p_uncond, dim_mults=multipliers, channels=channels
        )

    def call(model: Any, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return model(x, t - 1, c)

    model, cost = _nearest(build, call, data, config, target)
    diffusion = GaussianDiffusion(model, image_size=size, timesteps=config.T,
                                  sampling_timesteps=50).to(device)  # fmt: skip
    ema = EMA(diffusion, beta=0.995, update_every=10)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    generator = torch.Generator(device).manual_seed(0)
    dtype = autocast_dtype(precision, device)

    def step() -> None:
        x_0, c = data.batch(config.batch_size, generator)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = diffusion((x_0 + 1) / 2, classes=c)
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    def sample(n: int) -> Tensor:
        c = torch.arange(n, device=device) % K
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return diffusion.sample(c, cond_scale=1 + W, rescaled_phi=0.0)

    return Contender(f"lucidrains, {precision}", cost, _parameters(model), step, sample)


def forward_flops(data: Dataset, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> int:
    """FLOPs of one forward pass for one image, as torch counts them: 2 for a multiply and add."""
    x = data.scale(data.images[:1])
    t, c = torch.ones(1, dtype=torch.int64, device=x.device), data.labels[:1]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(x, t, c)
    return int(counter.get_total_flops())


def _nearest(
    build: Callable[[int, tuple[int, ...]], Any],
    call: Callable[[Any, Tensor, Tensor, Tensor], Tensor],
    data: Dataset,
    config: Config,
    target: int,
) -> tuple[Any, int]:
    """Of all widths and multipliers, the network whose forward pass costs most nearly `target`.

    ValueError if none comes within 10 %. They are counted on the meta device, which computes
    nothing.
    """
    one = dataclasses.replace(data, images=data.images[:1], labels=data.labels[:1]).to("meta")
    levels = len(config.multipliers) - 1
    costs = {}
    for width in range(8, 2 * config.width + 8, 8):
        for rest in itertools.combinations_with_replacement((1, 2, 3, 4), levels):
            with torch.device("meta"):
                model = build(width, (1, *rest))
                costs[width, (1, *rest)] = forward_flops(one, functools.partial(call, model))
    best = min(costs, key=lambda shape: abs(costs[shape] - target))
    if abs(costs[best] / target - 1) > 0.1:
        raise ValueError(f"no peer's network costs {target} FLOPs; the nearest has {costs[best]}")
    torch.manual_seed(0)
    return build(*best).to(data.images.device), costs[best]


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
