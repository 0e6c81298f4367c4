"""The commands' flags, for the tests that try them all."""

from guidance.__main__ import parser as guidance
from train.benchmark.__main__ import parser as benchmark
from train.config import parser as train
from train.evaluate.__main__ import parser as evaluate
from train.experiments.__main__ import parser as experiments

PARSERS = {
    "guidance": guidance,
    "train": train,
    "train.evaluate": evaluate,
    "train.experiments": experiments,
    "train.benchmark": benchmark,
}
