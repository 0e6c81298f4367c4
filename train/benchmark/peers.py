"""The benchmark's peers: diffusers and lucidrains, at the same work an image as this project.

Each is built and trained as its own examples do it, in the precision that is its default and also
in ours. Widths are searched so that a forward pass costs as many FLOPs as ours.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.benchmark.cost import nearest, parameters
from train.benchmark.ours import Contender, W
from train.config import Config
from train.data import Dataset
from unet.device import autocast_dtype, compile_network


def diffusers(
    data: Dataset, config: Config, precision: str, target: int, *, compiled: bool = False
) -> Contender:
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
        eps: Tensor = model(x, t - 1, class_labels=c).sample
        return eps

    model, cost = nearest(build, call, data, config, target)
    compile_network(model, "on" if compiled else "off", device)
    betas = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[config.schedule]
    noises: Any = DDPMScheduler(config.T, beta_schedule=betas)
    sampler: Any = DDIMScheduler(config.T, beta_schedule=betas)
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
        sampler.set_timesteps(50)
        x = torch.randn(n, channels, size, size, device=device)
        c = torch.cat([torch.full((n,), K), torch.arange(n) % K]).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            for t in sampler.timesteps:
                null, guided = model(torch.cat([x, x]), t, class_labels=c).sample.float().chunk(2)
                x = sampler.step(null + (1 + W) * (guided - null), t, x).prev_sample
        return x

    name = f"diffusers, {precision}" + ", compiled" * compiled
    return Contender(name, cost, parameters(model), step, sample)


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
        eps: Tensor = model(x, t - 1, c)
        return eps

    model, cost = nearest(build, call, data, config, target)
    diffusion = GaussianDiffusion(
        model, image_size=size, timesteps=config.T, beta_schedule=config.schedule,
        sampling_timesteps=50,
    ).to(device)  # fmt: skip
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
            x: Tensor = diffusion.sample(c, cond_scale=1 + W, rescaled_phi=0.0)
        return x

    return Contender(f"lucidrains, {precision}", cost, parameters(model), step, sample)
