"""Reproduce in diffusers: a callback's `negative_prompt_embeds` is never read.

    python docs/diffusers_negative_prompt_embeds.py

StableDiffusionPipeline offers the tensor to `callback_on_step_end` and takes it back. But the loop
guides with `prompt_embeds`, whose first half the negative became before the loop began. So what a
callback does to `negative_prompt_embeds` changes no bit, and what it does to the first half of
`prompt_embeds` does. A random pipeline of one block; nothing is downloaded.
"""

from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

torch.manual_seed(0)
pipe = StableDiffusionPipeline(
    unet=UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D",),
        attention_head_dim=4,
        cross_attention_dim=16,
    ),
    vae=AutoencoderKL(block_out_channels=(4,), norm_num_groups=4),
    scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
    text_encoder=None,
    tokenizer=None,
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
pipe.set_progress_bar_config(disable=True)
prompt, negative = torch.randn(2, 1, 12, 16)


def run(name: str, change: Any = None) -> Tensor:
    """The end of a run whose callback changes the tensor of this name after every update."""

    def callback(pipe: Any, i: int, t: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: change(tensors[name])} if change else {}

    latents: Tensor = pipe(
        prompt_embeds=prompt,
        negative_prompt_embeds=negative,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=[name],
    ).images
    return latents


plain = run("prompt_embeds")
dead = run("negative_prompt_embeds", lambda rows: 1e6 * rows)
alive = run("prompt_embeds", lambda rows: torch.cat([2 * rows[:1], rows[1:]]))
print(f"diffusers {diffusers.__version__}, StableDiffusionPipeline")
print(f"negative_prompt_embeds times 10⁶: largest change {(dead - plain).abs().max():.2g}")
print(f"first half of prompt_embeds times 2: largest change {(alive - plain).abs().max():.2g}")
