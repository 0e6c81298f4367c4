"""`python -m train.experiments NAME`: measure, write a CSV, print a table, draw a plot."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidance.app.flags import Parser, add_flags, read, run
from train.experiments.flags import OwnFlags, PairFlags, SampleFlags, WorldFlags
from unet.files import replacing

# NAME is answered by train/experiments/NAME.py, which needs pandas: --help does not
EXPERIMENTS = {
    "price-of-w": "what classifier-free guidance buys and costs, over w",
    "classifier": "classifier guidance on ε(∅) and ε(c) beside classifier-free, at equal strength",
    "removal": "removing a class from unconditional sampling: constant λ, started late, "
    "λ = p/(1−p)",
    "timing": "when the negative class takes effect: every start step, and early windows",
    "course": "what the negative class does inside the steps: norms, cosine, p_φ, D^(t)",
    "concepts": "scenes: is each concept as likely among the samples as in the data",
    "target": "scenes: how near each guidance comes to real digits without what is avoided",
    "worlds": "when the negative class acts where ε* is exact: no networks, a world for each claim",
    "samplers": "distance against the number of steps: DDIM, DPM-Solver++, ancestral",
    "solvers": "how far DDIM and DPM-Solver++ end from the solution of their equation",
}
PAIRS = ("timing", "course")
EXACT = ("worlds",)  # no networks


def parser() -> Parser:
    """The command line."""
    p = Parser(
        prog="python -m train.experiments",
        description="One experiment: a CSV file, a plot beside it, and a table on the screen. "
        "What the CSV file holds already is not measured again.",
    )
    names = p.add_subparsers(dest="name", required=True, metavar="|".join(EXPERIMENTS))
    for name, question in EXPERIMENTS.items():
        add_flags(names.add_parser(name, help=question, description=question), flags_of(name))
    return p


def flags_of(name: str) -> type[OwnFlags]:
    """The flags of one experiment."""
    if name in EXACT:
        return WorldFlags
    return PairFlags if name in PAIRS else SampleFlags


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of the user's are one line on stderr and exit code 2."""
    given = vars(parser().parse_args(arguments))
    name = given.pop("name")
    return run("python -m train.experiments", lambda: answer(name, read(flags_of(name), given)))


def experiment(name: str) -> Any:
    """The Experiment of this name."""
    return importlib.import_module(f"train.experiments.{name.replace('-', '_')}").EXPERIMENT


def answer(name: str, flags: OwnFlags) -> int:
    """Measure what the CSV file lacks, then show all of it."""
    from train.evaluate.results import Results, markdown
    from train.experiments.sweep import last_sweep, sweep

    chosen, path = experiment(name), Path(flags.out) / f"{name}.csv"
    results = Results(path)
    rows = last_sweep(results) if flags.plot else sweep(chosen, flags, results)
    try:
        print(markdown(chosen.table(rows)))
        with replacing(path.with_suffix(".png")) as partial:
            chosen.plot(rows).savefig(partial)
    except KeyError as error:
        raise ValueError(f"{path} is of another version, without {error}; move it away") from error
    print(f"\n{len(rows)} rows in {path}; {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
