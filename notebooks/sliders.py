"""Sliders for the functions of the playground: a busy sign, and steps that fit each other."""

from collections.abc import Callable
from typing import Any

from ipywidgets import HTML, Dropdown, FloatSlider, HBox, IntSlider, VBox, interactive_output


def whole(value: int, low: int, high: int) -> IntSlider:
    """A slider that reports when it is let go, and not on its way."""
    return IntSlider(value=value, min=low, max=high, continuous_update=False)


def sliders(function: Callable[..., None], steps: int, **choices: tuple[str, ...]) -> VBox:
    """Controls for a function of the playground; the first of each choice is chosen."""
    controls: dict[str, Any] = {
        name: Dropdown(options=of, value=of[0]) for name, of in choices.items()
    }
    controls |= {
        "w": FloatSlider(value=2.0, min=0.0, max=8.0, step=0.25, continuous_update=False),
        "start_step": whole(0, 0, steps),
        "stop_step": whole(steps, 0, steps),
        "steps": whole(steps, 2, 50),
        "seed": whole(0, 0, 99),
    }
    for name, control in controls.items():
        control.description = name.replace("_", " ")
    start, stop = controls["start_step"], controls["stop_step"]

    def fit(change: dict[str, Any]) -> None:
        """start ≤ stop ≤ steps; a stop at the end stays at the end."""
        at_the_end = stop.value == stop.max
        start.max, stop.max = change["new"], change["new"]
        if at_the_end:
            stop.value = stop.max

    controls["steps"].observe(fit, "value")
    busy = HTML("")

    def update(**values: Any) -> None:
        busy.value = "<b>drawing …</b>"
        try:
            function(**values)
        finally:
            busy.value = ""

    shown = interactive_output(update, controls)
    rows = list(controls.values())
    columns = HBox([VBox(rows[: len(choices)]), VBox(rows[len(choices) :])])
    return VBox([columns, busy, shown])
