"""`--init DIR`: another run's ε_θ to start from, though its classes be others."""

from pathlib import Path

import torch

from guidance.app.models import load_models
from unet import UNet


def start_from(directory: Path, unet: UNet, classes: list[str]) -> str:
    """Put the averaged ε_θ of `directory` into `unet`; says which labels' rows come from it.

    Rows of the embedding go by the names of their classes, and ∅'s to ∅; a class that was not
    there keeps its fresh row. ValueError if anything else is of another shape.
    """
    models = load_models(directory)
    old, new = models.unet.state_dict(), unet.state_dict()
    a, b = models.unet.architecture, unet.architecture
    shapes = [{k: v.shape[1:] if k == "label.weight" else v.shape for k, v in state.items()}
              for state in (old, new)]  # fmt: skip
    if shapes[0] != shapes[1]:
        others = [k for k in a if a[k] != b.get(k) and k not in ("classes", "dropout")]
        differ = ", ".join(f"{k} {a[k]} instead of {b.get(k)}" for k in others)
        raise ValueError(f"--init {directory} is a network of another shape: {differ}")
    rows = {name: k for k, name in enumerate(models.classes)}
    label, null = new["label.weight"].clone(), old["label.weight"][-1]
    taken = [name for name in classes if name in rows]
    for k, name in enumerate(classes):
        if name in rows:
            label[k] = old["label.weight"][rows[name]]
    with torch.no_grad():
        label[-1] = null
    unet.load_state_dict({**old, "label.weight": label})
    fresh = [name for name in classes if name not in rows]
    said = f"ε_θ starts from {directory}, as do the labels {', '.join([*taken, '∅'])}"
    return said + (f"; fresh are {', '.join(fresh)}" if fresh else "")
