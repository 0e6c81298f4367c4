"""The networks beside a second writing of them (network.py), and what the papers ask of them."""

import gzip
import itertools
import math

import network
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from equation_index import ROOT
from oracles import normal
from torch.testing import assert_close

from ddpm import Schedule
from unet import Judge, NoisyClassifier, UNet, load
from unet.blocks import ResBlock, SelfAttention, timestep_embedding


def shape(size, channels, width, multipliers, blocks, attention, dropout, classes=10):
    return locals()


PRESETS = {
    "digits": shape(8, 1, 32, (1, 2), 2, (4,), 0.1),
    "mnist": shape(28, 1, 32, (1, 2, 3), 1, (7,), 0.0),
    "cifar10": shape(32, 3, 64, (1, 2, 2, 2), 2, (16,), 0.1),
}
ODD = {
    "one level": shape(5, 1, 8, (1,), 1, (), 0.2, classes=1),
    "attention everywhere": shape(8, 2, 8, (1, 2, 4), 3, (8, 4, 2), 0.1),
    "200 channels, not for six heads": shape(4, 3, 40, (1, 5), 1, (4, 2), 0.3),
    "wide, narrow, wide": shape(12, 3, 16, (3, 1, 2), 2, (6,), 0.5, classes=2),
}
SHAPES = PRESETS | ODD
JUDGES = {  # size, channels, classes, width
    "digits": (8, 1, 10, 32),
    "mnist": (28, 1, 10, 32),
    "cifar10": (32, 3, 10, 96),
    "odd": (5, 2, 3, 3),
}
PARAMETERS = {
    "digits": {UNet: 911_233, NoisyClassifier: 256_362, Judge: 102_826},
    "mnist": {UNet: 1_452_481, NoisyClassifier: 605_386, Judge: 102_826},
    "cifar10": {UNet: 7_767_299, NoisyClassifier: 1_971_530, Judge: 918_442},
}
BUILT = [(kind, name) for kind in (UNet, NoisyClassifier) for name in SHAPES]
BUILT += [(Judge, name) for name in JUDGES]
every_network = pytest.mark.parametrize(("kind", "name"), BUILT)


def build(kind, name):
    if kind is Judge:
        return Judge(*JUDGES[name])
    arguments = dict(SHAPES[name])
    if kind is NoisyClassifier:
        arguments["classes"] = max(2, arguments["classes"])
        arguments["blocks"] = 1 if name in PRESETS else arguments["blocks"]
    return kind(**arguments)


def perturbed(kind, name):
    """In float64, with nothing at 0 or 1: neither a parameter nor a running statistic."""
    torch.manual_seed(0)
    model = build(kind, name).double().eval()
    for p in model.parameters():
        p.data += torch.randn_like(p) * (0.3 if p.ndim == 1 else p[0].numel() ** -0.5)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer += torch.rand_like(buffer)
    return model


def batch(model, B=2):
    """What the network is asked: images, and of the U-Net t and c, whose first is ∅."""
    a = model.architecture
    x = normal((B, a["channels"], a["size"], a["size"]))
    t, c = torch.tensor([1000, 37, 1])[:B], (a["classes"] - torch.arange(B)) % (a["classes"] + 1)
    return {UNet: (x, t, c), NoisyClassifier: (x, t), Judge: (x,)}[type(model)]


def written_again(model, asked, dropout=lambda h: h):
    """What network.py answers, with gradients that reach the model's own parameters."""
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    if isinstance(model, UNet):
        return network.noise_predictor(state, model.architecture, *asked, dropout)
    if isinstance(model, NoisyClassifier):
        return network.noisy_classifier(state, model.architecture, *asked, dropout)
    return network.judge(state, *asked, dropout, model.training)[1]


def blocks_of(architecture, up):
    """[(side, C_in, C_out, attention)] of the residual blocks, counted out from DDPM App. B.

    Down, and up again (or the classifier's one block more); the middle has two.
    """
    a, found, left = architecture, [], []
    channels = a["width"]
    for halvings, m in enumerate(a["multipliers"]):
        side = a["size"] // 2**halvings
        for _ in range(a["blocks"]):
            found.append((side, channels, m * a["width"], side in a["attention"]))
            channels = m * a["width"]
            left.append((side, channels))
    found.append((side, channels, channels, side in a["attention"]))
    if up:
        found.append((side, channels, channels, False))
        for side, beside in reversed(left):
            found.append((side, channels + beside, beside, side in a["attention"]))
            channels = beside
    return found


@pytest.fixture
def exact_sinusoids(monkeypatch):
    """The networks take theirs in float32: right to 1e-4 (the first test), and no nearer."""
    monkeypatch.setattr("unet.blocks.timestep_embedding", network.sinusoids)


@pytest.fixture
def masks(monkeypatch):
    """What each call of dropout multiplied by, in the order of the calls."""
    drawn, dropout = [], F.dropout

    def recorded(x, p=0.5, training=True, inplace=False):
        drawn.append(dropout(torch.ones_like(x), p, training))
        return x * drawn[-1]

    monkeypatch.setattr(F, "dropout", recorded)
    return drawn


def given(masks, p):
    """Dropout by masks that were drawn before: 0, or 1/(1 − p) with probability 1 − p."""

    def dropout(h):
        mask = masks.pop(0)
        assert mask.shape == h.shape and set(mask.unique().tolist()) <= {0.0, 1 / (1 - p)}
        assert ((mask == 0).double().mean() - p).abs() <= 6 * math.sqrt(p * (1 - p) / h.numel())
        return h * mask

    return dropout


def test_sinusoids_are_the_transformers():
    """DDPM App. B: cos and sin of t/10000^(2i/d), i = 0 … d/2−1."""
    t, d = torch.tensor([0, 1, 37, 1000]), 6
    expected = [
        [f(k / 10_000 ** (2 * i / d)) for f in (math.cos, math.sin) for i in range(d // 2)]
        for k in t.tolist()
    ]
    expected = torch.tensor(expected, dtype=torch.float64)
    assert_close(timestep_embedding(t, d), expected.float(), rtol=0, atol=1e-4)
    assert_close(network.sinusoids(t, d), expected, rtol=0, atol=1e-12)


@every_network
def test_the_network_is_the_same_written_twice(exact_sinusoids, kind, name):
    """DDPM App. B; ADM Sec. 3, 4.3. The other road: network.py, from the state_dict alone."""
    model = perturbed(kind, name)
    asked = batch(model)
    with torch.no_grad():
        expected = written_again(model, asked)
        assert_close(model(*asked), expected, rtol=1e-10, atol=1e-10)
        assert not model.training and expected.abs().max() > 0.1


@every_network
def test_in_training_dropout_is_where_it_belongs(exact_sinusoids, masks, kind, name):
    """ADM Sec. 3, and the judge's one. The other road: network.py, with the same masks."""
    model = perturbed(kind, name).train()
    asked = batch(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        answer = model(*asked)
        model.load_state_dict(before)  # batch norm has moved its running statistics
        p = 0.2 if kind is Judge else model.architecture["dropout"]
        assert_close(answer, written_again(model, asked, given(masks, p)), rtol=1e-10, atol=1e-10)
        assert not masks  # each was given


@pytest.mark.parametrize(("kind", "name"), [pair for pair in BUILT if pair[1] not in PRESETS])
def test_gradients_are_those_of_the_second_writing(exact_sinusoids, kind, name):
    """Nothing is cut off from its gradient: neither an image, which guidance needs, nor a weight.

    The other road: autograd through network.py.
    """
    model = perturbed(kind, name)
    x, *rest = batch(model)
    x.requires_grad_()
    wanted = [x, *model.parameters()]
    answer, again = model(x, *rest), written_again(model, (x, *rest))
    direction = normal(answer.shape, seed=1)
    for found, expected in zip(
        torch.autograd.grad((answer * direction).sum(), wanted),
        torch.autograd.grad((again * direction).sum(), wanted),
        strict=True,
    ):
        assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("training", [False, True])
def test_the_judges_features_and_running_statistics(masks, name, training):
    """The features are what the head gets, and batch norm remembers a tenth of each batch."""
    model = perturbed(Judge, name).train(training)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    (x,) = batch(model, 3)
    features = model.features(x)
    assert features.shape == (3, model.num_features)
    expected, _, statistics = network.judge(state, x, lambda h: h, training)
    assert_close(features, expected, rtol=1e-10, atol=1e-10)
    assert len(statistics) == 10 and not masks
    for key, value in statistics.items():
        assert_close(model.state_dict()[key], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["digits", "mnist", "scenes"])
def test_the_shipped_networks_are_the_same_written_twice(name):
    """In float32 as they are used, sinusoids too. The other road: network.py in float64."""
    for file in ("unet", "classifier", "judge"):
        model, _ = load(ROOT / f"weights/{name}/{file}.safetensors")
        asked = batch(model)
        with torch.no_grad():
            answer = model(asked[0].float(), *asked[1:])
            expected = written_again(model.double(), asked)
        assert_close(answer.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["digits", *ODD])
def test_no_class_is_the_row_of_null(name):
    """CFG Sec. 3.2: ∅ is a class with a learned embedding of its own, here row K."""
    model, K = perturbed(UNet, name), SHAPES[name]["classes"]
    assert model.null_token == K and model.label.weight.shape == (K + 1, 4 * SHAPES[name]["width"])
    x, t, _ = batch(model)
    classes = torch.tensor([0, K - 1])
    with torch.no_grad():
        null, conditional = model(x, t), model(x, t, classes)
        assert torch.equal(null, model(x, t, torch.full((2,), K)))
        model.label.weight[K] += 0.1
        assert (model(x, t) - null).abs().amax((1, 2, 3)).min() > 1e-3
        assert torch.equal(model(x, t, classes), conditional)
        changed = model(x, t)
        model.label.weight[:K] += 0.1
        assert torch.equal(model(x, t), changed)


def test_a_new_nulls_row_is_like_any_other():
    """Neither 0 nor frozen: every row is drawn from N(0, 1), and gets its gradient."""
    torch.manual_seed(0)
    rows = UNet(**PRESETS["cifar10"]).label.weight
    assert (rows.mean(1).abs() < 0.25).all() and ((rows.std(1) - 1).abs() < 0.2).all()
    model = perturbed(UNet, "digits")
    x, t, _ = batch(model)
    model(x, t).square().sum().backward()
    assert (model.label.weight.grad.abs().sum(1) > 0).tolist() == 10 * [False] + [True]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_a_new_network_answers_0(kind, name):
    """As DDPM's code has it: L_simple starts at 1. And p_φ starts undecided.

    A last layer at 0 learns, since what it gets is not 0; so no other layer may start there.
    """
    torch.manual_seed(0)
    model = build(kind, name)
    x, *rest = batch(model)
    answer = model(x.float(), *rest)
    assert (answer == 0).all()
    (answer - 1).square()[:, 0].sum().backward()
    last = model.out if kind is UNet else model.head
    assert last.weight.grad.abs().max() > 0 and last.bias.grad.abs().max() > 0
    at_0 = {name.rpartition(".")[0] for name, p in model.named_parameters() if not p.any()}
    layers = {"conv_out", "norm", "norm_in", "norm_out", "out" if kind is UNet else "head"}
    layers |= {"out"} if model.architecture["attention"] else set()
    assert {name.rpartition(".")[2] for name in at_0} == layers


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_a_new_block_passes_its_input_on(kind, name):
    """x, or its 1×1 convolution where the channels change: as in DDPM's and ADM's code."""
    torch.manual_seed(0)
    model = build(kind, name).double()
    for number, block in enumerate(m for m in model.modules() if isinstance(m, ResBlock)):
        c_in, c_out = block.conv_in.in_channels, block.conv_out.out_channels
        x, emb = normal((2, c_in, 3, 3), number), normal((2, block.scale_shift.in_features))
        passed = x if c_in == c_out else network.convolution(block.state_dict(), "skip", x, k=1)
        assert_close(block(x, emb), passed, rtol=0, atol=1e-12)
    for attention in (m for m in model.modules() if isinstance(m, SelfAttention)):
        x = normal((2, attention.out.in_channels, 3, 3))
        assert torch.equal(attention(x, None), x)


def test_adagn_scales_and_shifts_what_is_normed():
    """ADM Sec. 3: AdaGN(h, y) = y_s·GroupNorm(h) + y_b.

    The other road: where the embedding says y_s = 3 and y_b = 60, each group's mean is 60 and its
    standard deviation 3, so far above 0 that SiLU changes nothing.
    """
    torch.manual_seed(0)
    block, found = ResBlock(16, 32, emb=4, dropout=0.0).double(), []
    block.dropout.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        block.scale_shift.weight.zero_()
        block.scale_shift.bias.copy_(torch.tensor([3.0 - 1] * 32 + [60.0] * 32))
        block(normal((2, 16, 8, 8)), normal((2, 4)))
    groups = found[0].reshape(2, 4, -1)  # 32 channels, 8 a group
    assert_close(groups.mean(2), torch.full_like(groups[:, :, 0], 60), rtol=0, atol=1e-9)
    assert_close(
        groups.std(2, correction=0), torch.full_like(groups[:, :, 0], 3), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_time_and_class_reach_every_block(exact_sinusoids, kind, name):
    """ADM Sec. 3: [y_s, y_b] of every AdaGN is linear in the sum of both embeddings.

    And once a block: with its other input as it was, it answers to t, and in the U-Net to c.
    """
    model = perturbed(kind, name)
    seen = []
    for block in (m for m in model.modules() if isinstance(m, ResBlock)):
        block.register_forward_hook(lambda block, inputs, y: seen.append((block, *inputs, y)))
    x, t, *c = batch(model)
    state = model.state_dict()
    with torch.no_grad():
        model(x, t, *c)
        time = network.time(state, t, SHAPES[name]["width"])
        label = state["label.weight"][c[0]] if c else 0
        assert len(seen) == len(blocks_of(model.architecture, kind is UNet))
        for block, h, emb, y in list(seen):
            assert_close(emb, time + label, rtol=1e-10, atol=1e-10)
            for other in [time + 0.1 + label] + ([time + label.flip(0)] if c else []):
                change = (block(h, other) - y).abs().amax((2, 3))  # (B, C)
                assert change.min() > 1e-4, "a channel that knows neither"


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [UNet, NoisyClassifier])
def test_attention_is_at_the_sides_that_were_asked_for(kind, name):
    """DDPM App. B: behind each residual block of such a side, and between the middle's two."""
    model = perturbed(kind, name)
    order = []
    for module in model.modules():
        if isinstance(module, (ResBlock, SelfAttention)):
            module.register_forward_hook(
                lambda m, inputs, y: order.append((type(m), y.shape[3], y.shape[1]))
            )
    with torch.no_grad():
        model(*batch(model, 1))
    expected = []
    for side, _, channels, attention in blocks_of(model.architecture, kind is UNet):
        expected += [(ResBlock, side, channels)]
        expected += [(SelfAttention, side, channels)] if attention else []
    assert order == expected


@every_network
def test_the_number_of_parameters(kind, name):
    """Counted out from the architecture, layer by layer; the presets' are also known."""
    model = build(kind, name)

    def conv(k, a, b):
        return k * k * a * b + b

    if kind is Judge:
        _, channels, classes, width = JUDGES[name]
        widths = [channels, width, width, 2 * width, 2 * width, 2 * width]
        expected = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
        expected += conv(1, 2 * width, classes)
    else:
        a = model.architecture
        emb, channels = 4 * a["width"], [a["width"] * m for m in a["multipliers"]]
        expected = conv(1, a["width"], emb) + conv(1, emb, emb)
        expected += conv(3, a["channels"], a["width"]) + sum(conv(3, c, c) for c in channels[:-1])
        for _, c_in, c_out, attention in blocks_of(a, kind is UNet):
            expected += 2 * c_in + conv(3, c_in, c_out) + conv(1, emb, 2 * c_out)
            expected += 2 * c_out + conv(3, c_out, c_out)
            expected += conv(1, c_in, c_out) if c_in != c_out else 0
            expected += 2 * c_out + conv(1, c_out, 4 * c_out) if attention else 0
        if kind is UNet:
            expected += emb * (a["classes"] + 1) + sum(conv(3, c, c) for c in channels[1:])
            expected += 2 * channels[0] + conv(3, channels[0], a["channels"])
        else:
            expected += 2 * channels[-1] + conv(1, channels[-1], a["classes"])
    found = sum(p.numel() for p in model.parameters())
    assert found == expected
    if name in PARAMETERS:
        assert found == PARAMETERS[name][kind]


def held_out_digits():
    """The 360 of scikit-learn's digits that no network here has seen."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    _, x, _, c = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return torch.tensor(x / 8 - 1).view(-1, 1, 8, 8), torch.tensor(c)


def mnist_test_images(n=100):
    """The first of MNIST's test set, from the published files."""
    raw, parts = ROOT / "data/MNIST/raw", []
    for name, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = raw / f"t10k-{name}-ubyte.gz"
        if not path.exists():
            pytest.skip("MNIST is not in data/")
        parts.append(np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header))
    x, c = parts[0].reshape(-1, 1, 28, 28)[:n], parts[1][:n]
    return torch.tensor(x / 127.5 - 1), torch.tensor(c.astype(np.int64))


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [
        ("digits", held_out_digits, (0.1263, 0.1458, 1.016, 0.01476)),
        ("mnist", mnist_test_images, (0.01982, 0.02073, 1.195, 0.004198)),
    ],
)
def test_the_shipped_weights_keep_their_loss(name, images, expected):
    """DDPM Eq. 14 given the class and given ∅, the noisy classifier's −log p_φ, and the judge's.

    On held-out images: image number i of N at t_i in the middle of the i-th of N equal parts of
    1..T, with the i-th ε of numpy's RandomState(0), whose stream is frozen; the mean over images
    and pixels. Noise of 0.3 % on the weights, another schedule, or ∅'s row at 0 moves them.
    """
    x_0, c = images()
    N = len(x_0)
    unet, info = load(ROOT / f"weights/{name}/unet.safetensors")
    schedule = Schedule.from_info(info["schedule"])
    t = 1 + (2 * torch.arange(N) + 1) * schedule.T // (2 * N)
    eps = torch.tensor(np.random.RandomState(0).standard_normal(x_0.shape))
    alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
    x_t = (alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps).float()
    networks = [load(ROOT / f"weights/{name}/{f}.safetensors")[0] for f in ("classifier", "judge")]
    with torch.no_grad():
        found = [(unet(x_t, t, y).double() - eps).square().mean().item() for y in (c, None)]
        for logits in (networks[0](x_t, t), networks[1](x_0.float())):
            p = logits.double().exp()
            found.append(-(p / p.sum(1, keepdim=True))[range(N), c].log().mean().item())
    assert found == pytest.approx(expected, rel=5e-4)
