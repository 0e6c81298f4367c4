"""Scenes: MNIST's digits with a ring beside them or in bold strokes, so that labels overlap.

Ten digits exclude each other. A prompt is not like that: what it names contains, in many of its
pictures, what a negative prompt avoids. Here a digit is the picture's subject, a ring is a noun
that may stand beside it, and bold is an adjective that it may have.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CONCEPTS = [*map(str, range(10)), "ring", "bold"]
RING, BOLD = 10, 11
# p(ring|digit): 3 and 8 imply it strongly, 1 and 7 weakly, 9 never
P_RING = (0.5, 0.05, 0.5, 0.9, 0.5, 0.5, 0.5, 0.05, 0.9, 0.0)
P_BOLD = 0.5  # of every digit
P_USUAL = 0.9  # of the rings that are at their usual place
USUAL, RARE = (4.0, 4.0), (23.0, 23.0)  # row and column of a ring's centre: the freest corners
RADIUS, HALF_WIDTH = 2.75, 0.75  # pixels


def draw(images: Tensor, digits: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The digits as scenes, (N, 1, 28, 28) uint8, and which of CONCEPTS are true: (N, 12) bool.

    images: (N, 1, 28, 28) uint8; digits: (N,). Nothing is stored: the seed decides.
    """
    u = torch.rand(3, len(images), generator=torch.Generator().manual_seed(seed))
    ring, bold = u[0] < torch.tensor(P_RING)[digits], u[1] < P_BOLD
    usual = u[2] < P_USUAL
    thick = F.max_pool2d(images.float(), 3, stride=1, padding=1).to(torch.uint8)
    x = torch.where(bold[:, None, None, None], thick, images)
    place = torch.where(usual[:, None, None, None], picture(USUAL), picture(RARE))
    x = torch.where(ring[:, None, None, None], torch.maximum(x, place), x)
    return x, torch.cat([F.one_hot(digits, 10).bool(), ring[:, None], bold[:, None]], dim=1)


def picture(centre: tuple[float, float]) -> Tensor:
    """A ring alone, (28, 28) uint8, its edges smoothed over a pixel."""
    pixels = torch.arange(28.0)
    distance = torch.hypot(pixels[:, None] - centre[0], pixels - centre[1])
    cover = (HALF_WIDTH + 0.5 - (distance - RADIUS).abs()).clamp(0, 1)
    return (255 * cover).round().to(torch.uint8)


def at_rare_place(x: Tensor) -> Tensor:
    """Whether a ring, if there is one, is where few are: (n,) bool. x: (n, 1, 28, 28) in [-1, 1].

    The corner whose pixels are more like a ring's has it.
    """
    rings = torch.stack([picture(RARE), picture(USUAL)]).to(x) / 127.5 - 1  # (2, 28, 28)
    near = rings > -1  # the ring's own pixels
    errors = ((x - rings) ** 2 * near).sum(dim=(2, 3)) / near.sum(dim=(1, 2))  # (n, 2)
    return errors[:, 0] < errors[:, 1]
