"""Stable Diffusion in miniature: diffusers' own pipelines on random networks, made offline.

The tokenizer is CLIP's class with a vocabulary of the 256 bytes, each also as the end of a word,
and no merges: a letter is a token. Importing this takes seconds, as diffusers does.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # these imports warn about packages that they can do without
    import diffusers
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
        UniPCMultistepScheduler,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

diffusers.utils.logging.set_verbosity_error()  # it has advice on each change of type

LENGTH, WIDTH = 12, 16  # tokens in a prompt, features of a token
SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
"""Stable Diffusion's own configuration of its schedulers."""


def tokenizer() -> CLIPTokenizer:
    """CLIP's, without its merges."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that are letters as such
    letters = [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({word: k for k, word in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)


def text_encoder(kind: type = CLIPTextModel) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return kind(config).eval()


def unet(**changes: Any) -> UNet2DConditionModel:
    """Of latents of 4 channels, 8×8."""
    config = {
        "sample_size": 8,
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "attention_head_dim": 4,
        "cross_attention_dim": WIDTH,
    }
    return UNet2DConditionModel(**(config | changes)).eval()


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=16,
    ).eval()


def ddim(**changes: Any) -> DDIMScheduler:
    """No clip, and it ends at x_1."""
    return DDIMScheduler.from_config(SCHEDULE | changes)


SCHEDULERS = {
    "DDIM": DDIMScheduler,
    "PNDM": PNDMScheduler,
    "Euler": EulerDiscreteScheduler,
    "Euler a": EulerAncestralDiscreteScheduler,
    "DPM++ 2M": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
    "Heun": HeunDiscreteScheduler,
}


def scheduled(pipe: Any, name: str) -> Any:
    """The pipeline with another scheduler, as diffusers' own pages change it."""
    pipe.scheduler = SCHEDULERS[name].from_config(SCHEDULE)
    return pipe


def sd(seed: int = 0) -> StableDiffusionPipeline:
    """Stable Diffusion 1 and 2, with DDIM."""
    torch.manual_seed(seed)
    pipe = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl(zeros: bool = True, seed: int = 0) -> StableDiffusionXLPipeline:
    """Stable Diffusion XL. zeros: whether no negative prompt is zeros, or else the empty prompt."""
    torch.manual_seed(seed)
    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        ),
        scheduler=ddim(),
        force_zeros_for_empty_prompt=zeros,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
