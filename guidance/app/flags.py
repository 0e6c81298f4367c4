"""A command's flags are a dataclass: a field carries its default, its help and its bounds.

What a user gets wrong is one line on stderr that names the flag, and exit code 2.
"""

import argparse
import dataclasses
import math
import os
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from guidance.app.bounds import in_words, inside
from guidance.app.run import run as run  # what runs a command, beside what reads its flags
from guidance.app.run import write_any_text

Flags = TypeVar("Flags")


def flag(
    default: Any = dataclasses.MISSING,
    text: str = "",
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: tuple[str, ...] = (),
    metavar: str | None = None,
    name: str = "",
    positional: bool = False,
    path: bool = False,
) -> Any:
    """A field of flags. Without a default it must be given; a tuple is a list with commas.

    path: ~ stands for the user's home directory.
    """
    metadata = {k: v for k, v in locals().items() if k != "default"}
    return dataclasses.field(default=default, metadata=metadata)


class Parser(argparse.ArgumentParser):
    """argparse without the usage text in front of an error, and without abbreviated flags."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        write_any_text()  # --help has more letters than some consoles
        words = _joined(sys.argv[1:] if args is None else args)
        for word in words:
            # argparse takes the value "--" for an empty list
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word[:-3]}: expected one argument")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help shows every flag)\n")


def _joined(words: Sequence[str]) -> list[str]:
    """--w -1,0,1 as --w=-1,0,1: argparse takes what begins with a minus for a flag."""
    found: list[str] = []
    for word in words:
        name = found[-1] if found else ""
        if re.match(r"-[\d.]", word) and re.fullmatch(r"--[a-z][a-z_-]*", name):
            found[-1] = f"{name}={word}"
        else:
            found.append(word)
    return found


def add_flags(
    parser: argparse.ArgumentParser, flags: type[Any], presets: Mapping[str, Any] | None = None
) -> None:
    """An argument for each field; what is not given stays out of the namespace."""
    for f in dataclasses.fields(flags):
        m, kind = f.metadata, _kind(f)
        text, required = m["text"], f.default is dataclasses.MISSING
        shown = [_show(getattr(p, f.name)) for p in presets.values()] if presets else []
        if presets and shown == list(presets):  # the flag that names the preset
            shown = []
        shown = [] if required or kind is bool else shown or [_show(f.default)]
        if any(shown):
            text += f" (default: {shown[0] if len(set(shown)) == 1 else ' | '.join(shown)})"
        options: dict[str, Any] = {"help": text.replace("%", "%%"), "default": argparse.SUPPRESS}
        if kind is bool:
            options["action"] = "store_true"
        else:
            options["type"] = _parse(kind, _repeated(f))
            options["choices"], options["metavar"] = m["choices"] or None, m["metavar"]
            if not m["choices"] and not m["metavar"]:
                options["metavar"] = f.name.upper()
        if m["positional"]:
            options |= {"type": kind, "nargs": "+"}
            del options["default"]
            parser.add_argument(f.name, **options)
        else:
            parser.add_argument(_flag(f), dest=f.name, required=required, **options)


def read(flags: type[Flags], given: Mapping[str, Any], base: Flags | None = None) -> Flags:
    """The flags with what was given put in, into `base` where there is one. Checked."""
    values = {
        f.name: _read(given[f.name], f.metadata["path"])
        for f in dataclasses.fields(flags)  # type: ignore[arg-type]
        if f.name in given
    }
    found = flags(**values) if base is None else dataclasses.replace(base, **values)  # type: ignore[type-var]
    check(found)
    return found


def _read(value: Any, path: bool) -> Any:
    if isinstance(value, list):
        return tuple(_read(v, path) for v in value)
    return os.path.expanduser(value) if path and isinstance(value, str) else value


def check(flags: Any) -> None:
    """ValueError that names the flag, the value and what is allowed."""
    for f in dataclasses.fields(flags):
        value, m, kind = getattr(flags, f.name), f.metadata, _kind(f)
        values = value if _repeated(f) and isinstance(value, tuple) else [value]
        several = "a list of " if _repeated(f) else ""
        if (not isinstance(value, tuple) and _repeated(f)) or not all(_is(v, kind) for v in values):
            wanted = {int: "integers", float: "numbers", str: "texts"}.get(kind, kind.__name__)
            wrong(flags, f.name, f"{several}{wanted}" if several else f"of type {kind.__name__}")
        for v in values if kind in (int, float) else []:
            if not inside(m, v):
                wrong(flags, f.name, in_words(m, v))
        if m["choices"] and not all(v in m["choices"] for v in values):
            wrong(flags, f.name, f"one of {', '.join(m['choices'])}")


def wrong(flags: Any, name: str, allowed: str) -> NoReturn:
    """Raise the ValueError: --name must be allowed, got value."""
    f = next(f for f in dataclasses.fields(flags) if f.name == name)
    raise ValueError(f"{_flag(f)} must be {allowed}, got {_show(getattr(flags, name))!s:.80}")


def _kind(f: Any) -> Any:
    """int, float, str or bool; of a tuple, that of its items."""
    return typing.get_args(f.type)[0] if _repeated(f) else f.type


def _repeated(f: Any) -> bool:
    return typing.get_origin(f.type) is tuple


def _flag(f: Any) -> str:
    return str(f.metadata["name"]) or "--" + f.name.replace("_", "-")


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)


def _parse(kind: Any, repeated: bool) -> Callable[[str], Any]:
    """The argparse type of a flag."""
    if not repeated:
        return kind  # type: ignore[no-any-return]
    what = {int: "integers", float: "numbers", str: "texts"}[kind]

    def items(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(",")) if text else ()
        except ValueError:
            message = f"must be {what} with commas between, got {text!r:.80}"
            raise argparse.ArgumentTypeError(message) from None

    return items


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
