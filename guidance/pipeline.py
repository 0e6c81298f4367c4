"""A diffusers pipeline as an argument: what it must be, and what its negative half is.

By what it can do, not by its class: Stable Diffusion 1, 2 and XL have a unet, an encode_prompt, and
a callback that sees prompt_embeds, whose first half is the negative prompt.
"""

from typing import Annotated, Any

import torch
from torch import Tensor

from ddpm.checked import Call
from ddpm.checks import whole
from ddpm.values import integer


def seen(pipe: Any) -> list[str]:
    """What the U-Net gets of a prompt, by the names that the pipeline's callback has for it."""
    inputs = getattr(pipe, "_callback_tensor_inputs", ())
    return [name for name in ("prompt_embeds", "add_text_embeds") if name in inputs]


@torch.no_grad()
def negative_rows(pipe: Any, texts: list[str] | None, n: int = 1) -> dict[str, Tensor]:
    """The negative half for these texts, or n times for no negative prompt: zeros on some SDXL."""
    halves = pipe.encode_prompt(
        [""] * n,
        device=pipe._execution_device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
        negative_prompt=texts,
    )
    return dict(zip(seen(pipe), halves[1::2], strict=True))  # positive, negative, and again pooled


def ask(pipe: Any, x: Tensor, t: Tensor, embeds: Tensor, pooled: Tensor | None = None) -> Tensor:
    """The network's answer in x's type. SDXL's wants the image's size, crop and size as well."""
    added = None
    if pooled is not None:
        size = [pipe.vae_scale_factor * side for side in x.shape[-2:]]
        added = {"text_embeds": pooled, "time_ids": t.new_tensor([[*size, 0, 0, *size]] * len(t))}
    out: Tensor = pipe.unet(x.to(pipe.unet.dtype), t, embeds, added_cond_kwargs=added).sample
    return out.to(x.dtype)


def nothing(pipe: Any, like: str | list[str]) -> dict[str, Any]:
    """No negative prompt as arguments, of the form and number of `like`: the pipeline checks it."""
    if not pipe.config.get("force_zeros_for_empty_prompt"):
        return {"negative_prompt": "" if isinstance(like, str) else [""] * len(like)}
    if isinstance(like, str):
        return {"negative_prompt": None}
    names = "negative_prompt_embeds", "negative_pooled_prompt_embeds"
    return dict(zip(names, negative_rows(pipe, None, len(like)).values(), strict=True))


def look_at_pipe(name: str, value: Any, call: Call) -> None:
    """A pipeline whose callback can exchange the negative half."""
    if not (hasattr(value, "unet") and hasattr(value, "encode_prompt") and seen(value)):
        raise TypeError(f"{name} must be a pipeline of Stable Diffusion 1, 2 or XL (with a unet, "
                        "an encode_prompt, and a callback that sees prompt_embeds), "
                        f"got {type(value).__name__}")  # fmt: skip


def look_at_scheduler(name: str, value: Any, call: Call) -> None:
    """A scheduler with a table of ᾱ."""
    if not (hasattr(value, "alphas_cumprod") and hasattr(value, "set_timesteps")):
        raise TypeError(f"{name} must be a scheduler with a table of ᾱ (alphas_cumprod), "
                        f"got {type(value).__name__}")  # fmt: skip


def look_at_network(name: str, value: Any, call: Call) -> None:
    """A pipeline whose U-Net is a function of x_t, t and a prompt, and whose ε can be told."""
    look_at_pipe(name, value, call)
    look_at_scheduler(f"{name}.scheduler", getattr(value, "scheduler", None), call)
    net = value.unet.config
    others = [key for key in ("class_embed_type", "num_class_embeds", "time_cond_proj_dim")
              if net.get(key) is not None]  # fmt: skip
    if net.get("addition_embed_type") != (None, None, "text_time")[len(seen(value))]:
        others.append("addition_embed_type")
    if others or net.in_channels != net.out_channels:
        raise TypeError(f"{name}.unet must be conditioned on t and a prompt alone, got one with "
                        f"{', '.join(others) or f'{net.in_channels} channels'}")  # fmt: skip
    if not value.scheduler.alphas_cumprod[-1] > 0:
        raise ValueError(f"{name}.scheduler has ᾱ_T = 0 (zero terminal SNR): x_T says nothing of "
                         "x_0 there, and ε is not defined")  # fmt: skip
    kind = value.scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"{name}.scheduler must predict epsilon, v_prediction or sample, "
                         f"got {kind!r:.80}")  # fmt: skip


def look_at_texts(name: str, value: Any, call: Call) -> None:
    """A list of texts: one text would pass for a list of letters."""
    if not (isinstance(value, list) and value and all(isinstance(text, str) for text in value)):
        raise TypeError(f"{name} must be a list of texts, got {value!r:.80}")


def look_at_text(name: str, value: Any, call: Call) -> None:
    """A text, or a list with one for each prompt."""
    if not isinstance(value, str):
        look_at_texts(name, value, call)


def look_at_stop_step(name: str, value: Any, call: Call) -> None:
    """None, or a step that does not come before start_step."""
    start = call["start_step"]
    if value is not None and not start <= (-1 if integer(value) is None else value):
        raise ValueError(f"{name} must be None or a step that is not before start_step "
                         f"({start}), got {value!r:.80}")  # fmt: skip


def check_run(pipe: Any, tensors: dict[str, Tensor], start: int, stop: int | None) -> None:
    """ValueError unless this run is guided by two halves and makes as many updates."""
    n, rows, updates = len(tensors["latents"]), len(tensors["prompt_embeds"]), pipe.num_timesteps
    if rows == n:
        raise ValueError(f"guidance_scale must be above 1, got {pipe.guidance_scale}: nothing is "
                         "guided, so a negative prompt changes nothing")  # fmt: skip
    if rows != 2 * n:
        raise ValueError(f"pipe must guide by two halves, a negative and a positive one: got {rows}"
                         f" rows of prompt_embeds for {n} images")  # fmt: skip
    for name, step in (("start_step", start), ("stop_step", stop)):
        if step is not None and step > updates:
            raise ValueError(f"{name} must lie in 0..{updates}, as this run makes {updates} "
                             f"updates, got {step}")  # fmt: skip


Pipe = Annotated[Any, look_at_pipe]
Network = Annotated[Any, look_at_network]
Scheduler = Annotated[Any, look_at_scheduler]
Text = Annotated[str | list[str], look_at_text]
Texts = Annotated[list[str], look_at_texts]
StartStep = Annotated[int, whole(0, 1_000_000)]
StopStep = Annotated[int | None, look_at_stop_step]  # beside an argument `start_step`
