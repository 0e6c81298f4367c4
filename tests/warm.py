"""What the first training step of a process would wait for, done once for all of `forked`'s."""

import torch
from helpers import Line, line_config, line_data, line_loss

from train.loop import fit

torch.set_num_threads(1)
fit("x", Line(), line_loss, line_data(), line_config(), 1)
