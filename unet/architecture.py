"""What a network is built from: looked at before anything is built, kept in its weights file."""

from typing import Any

# More can only be a mistake, or a file that wants to fill the memory of whoever opens it.
MOST = {"size": 4096, "channels": 1024, "classes": 1_000_000, "width": 4096, "blocks": 32}
MOST |= {"multipliers": 64, "attention": 4096}
LEVELS = 8


def architecture(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The network's name, and those of its arguments in `found`, its locals(), as plain data.

    ValueError that names the argument that is out of range.
    """
    arguments = {key: value for key, value in found.items() if key in MOST or key == "dropout"}
    for key, value in arguments.items():
        if key == "dropout":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and 0 <= value < 1):
                raise ValueError(f"dropout must lie in [0, 1), got {value!r:.80}")
        elif key in ("multipliers", "attention"):
            few = isinstance(value, (list, tuple)) and len(value) <= LEVELS
            if not few or not all(_whole(v, MOST[key]) for v in value):
                raise ValueError(
                    f"{key} must be at most {LEVELS} integers in 1..{MOST[key]}, got {value!r:.80}"
                )
            arguments[key] = list(value)
        elif not _whole(value, MOST[key]):
            raise ValueError(f"{key} must be an integer in 1..{MOST[key]}, got {value!r:.80}")
    return {"name": name, **arguments}


def _whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
