"""docs/playground: its URLs, its words, and the page itself in a browser without a window."""

import contextlib
import functools
import http.server
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest
import torch
from node import ROOT, TESTS, ask, node
from PIL import Image
from tiny import perturbed

from ddpm import ddim, linear_schedule
from guidance.__main__ import main
from guidance.app.draw import processes, window
from guidance.app.guides import negative
from guidance.app.models import load_models
from guidance.app.pictures import as_bytes
from unet import save

INFO = {"schedule": linear_schedule(100, beta_T=0.2).info, "classes": ["ant", "bee", "cat's"]}

# -- URLs and words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hash_",
    [
        "",
        "#weights=digits&class=4&negative=null&w=0.5&start-step=3&stop-step=7&steps=9&seed=5",
        "#eta=0.0000001",
        "#w=-1&eta=0.35&at=0&threads=2&stop-step=20",
        "#start-step=0&seed=9007199254740991&steps=100&at=100",
        "#world=classes&world-guidance=posterior&world-w=0&world-at=3&world-stop-step=50",
        "#world=own&gaussians=0%2C-1.5%2C0.05%2C1%2C%3B1%2C1%2C0.2%2C2.5%2Cpm%3B-2%2C0%2C1%2C1%2Cm",
    ],
)
def test_a_state_is_its_url(hash_):
    found = ask("parse", hash=hash_)
    assert found["errors"] == [] and found["again"] == found["state"]
    given = {part.split("=")[0] for part in hash_.strip("#").split("&") if part}
    defaults = ask("defaults")
    assert {k for k, v in found["state"].items() if v != defaults[k]} <= given
    kept = {part.split("=")[0] for part in found["hash"].strip("#").split("&") if part}
    assert kept <= given


@pytest.mark.parametrize(
    ("hash_", "said"),
    [
        ("#w=abc", "w as a number in -1..20, got abc"),
        ("#w=20.5", "w as a number in -1..20, got 20.5"),
        ("#w=1e3", "w as a number in -1..20, got 1e3"),
        ("#w=", "w as a number in -1..20, got nothing"),
        ("#w=NaN", "w as a number in -1..20, got NaN"),
        ("#steps=0", "steps as an integer in 1..100, got 0"),
        ("#steps=2.5", "steps as an integer in 1..100, got 2.5"),
        ("#seed=-1", "seed as an integer in 0..9007199254740991, got -1"),
        ("#seed=9007199254740992", "seed as an integer in 0..9007199254740991, got"),
        ("#eta=1.01", "eta as a number in 0..1, got 1.01"),
        ("#weights=../../x", "weights as one of digits, mnist, scenes, got ../../x"),
        ("#start-step=21", "start-step in 0..20 (steps), got 21"),
        ("#start-step=9&stop-step=5", "start-step in 0..5 (stop-step), got 9"),
        ("#steps=5&at=6", "at in 0..5 (steps), got 6"),
        ("#colour=red", "none but known keys, got colour"),
        ("#__proto__=1", "none but known keys, got __proto__"),
        ("#world=flat", "world as one of looks, classes, detail, removal, own, got flat"),
        ("#world=own", "gaussians=… with world=own"),
        ("#world=own&gaussians=0,0,0,1,", "variance in 0.005..4"),
        ("#world=own&gaussians=0,0,1,1,x", "labels p, m, pm or none, got 0,0,1,1,x"),
        ("#world=own&gaussians=0,9,1,1,", "x, y in -4..4"),
        ("#world=own&gaussians=" + ";".join(["0,0,1,1,"] * 9), "at most 8 gaussians, got 9"),
    ],
)
def test_what_a_url_gets_wrong(hash_, said):
    """One line that names the key, the value and what is allowed; the rest of it still counts."""
    found = ask("parse", hash=hash_ + "&negative=7")
    assert len(found["errors"]) == 1 + (said.startswith("variance") or "gaussians, got" in said
                                        or "labels" in said or "x, y" in said)  # fmt: skip
    line = found["errors"][0]
    assert said in line and line.startswith("The URL must ") and "\n" not in line
    assert found["state"]["negative"] == "7" and found["again"] == found["state"]


def test_a_default_moves_in_silence():
    found = ask("parse", hash="#steps=4")
    assert found["errors"] == [] and found["state"]["start-step"] == 4


def test_labels_are_the_commands():
    classes = ["7", "ring", "bold"]
    wanted = {"7": 0, "ring": 1, "null": 3, "∅": 3, "3": 3, "0": 0, "2": 2}
    assert {text: ask("label", text=text, classes=classes) for text in wanted} == wanted
    for text in ("4", "rings", "-1", "1.0"):
        with pytest.raises(RuntimeError, match=r"class must be among 7, ring, bold, or null"):
            ask("label", text=text, classes=classes)


def test_the_formulas_words():
    numbers = {"w": 2, "positive": "4", "second": "9", "t": 750}
    found = ask("words", numbers=numbers, when=[5, 20, 20, "9"])
    assert found["formula"] == "ε̂ = 3·ε(x_t, 750, 4) − 2·ε(x_t, 750, 9)"
    assert found["acting"] == (
        "p₋ = 9 acts in steps 5 to 19 of 20; ∅ stands in its place in the others."
    )
    found = ask("words", numbers={**numbers, "w": -0.25}, when=[20, None, 20, "9"])
    assert found["formula"] == "ε̂ = 0.75·ε(x_t, 750, 4) + 0.25·ε(x_t, 750, 9)"
    assert found["acting"].startswith("p₋ never acts")


def test_the_shown_command_draws_the_pictures(tmp_path, monkeypatch):
    """All flags at once, and names that a shell would take apart: the pixels are the page's."""
    path = tmp_path / "unet.safetensors"
    save(path, perturbed(), INFO)
    hash_ = "#class=bee&negative=cat's&w=1.5&stop-step=4&steps=5&eta=0.5&seed=11"
    line = ask("command", hash=hash_, starts=[1, 4], file="unet.safetensors")
    python, _, module, *words = shlex.split(line)
    assert (python, module) == ("python", "guidance")
    words[words.index("runs/NAME")] = str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--save", "saved", "--out", "grid.png"]) == 0
    options = {"positive": 1, "negative": 2, "w": 1.5, "stop": 4, "steps": 5, "eta": 0.5}
    for start, name in ((1, "row000-image000-bee"), (4, "row001-image000-bee")):
        run = ask("run", file=str(path), options={**options, "start": start, "seed": 11})
        ours = as_bytes(torch.tensor(run[-1]["x"]).view(1, 1, 8, 8)).squeeze()
        theirs = np.asarray(Image.open(tmp_path / f"saved/{name}.png")).astype(int)
        assert np.abs(ours.numpy().astype(int) - theirs).max() <= 1


def test_a_branch_is_the_run(tmp_path):
    """From every state on, bit for bit, where the sampler adds noise too."""
    save(tmp_path / "unet.safetensors", perturbed(), INFO)
    options = {"positive": 0, "negative": 1, "w": 2, "start": 2, "stop": 5, "steps": 7, "seed": 3}
    for eta in (0, 0.7):
        found = ask(
            "branches", file=str(tmp_path / "unet.safetensors"), options={**options, "eta": eta}
        )
        assert found == [0] * 6


# -- the page --------------------------------------------------------------------------------------


@functools.cache
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium: the page's click-through needs one")
    return found


@pytest.fixture(scope="module")
def page():
    """The URL of the page on the loopback address, served as `make playground` serves it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/docs/playground/"
        server.shutdown()


def click_through(*actions, flags=()):
    """The actions' answers, (requests, errors); see tests/browser.mjs."""
    done = subprocess.run(
        [node(), str(TESTS / "browser.mjs")],
        input=json.dumps({"browser": chromium(), "flags": flags, "actions": actions}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
    )
    found = json.loads(done.stdout or json.dumps({"failed": done.stderr}))
    assert "failed" not in found, found["failed"]
    return found["answers"], found["requests"], found["errors"]


READY = {"until": "window.playground?.network.times.all !== undefined"}
MESSAGE = {"evaluate": "message.hidden ? '' : message.textContent"}
DIGITS = "#weights=digits&class=null&negative=9&seed=13&steps=6&start-step=1"


def evaluate(expression):
    return {"evaluate": expression}


def pixels(selector):
    """The red channel of a canvas, row by row."""
    return evaluate(
        f"""(() => {{ const c = document.querySelector({json.dumps(selector)});
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return [...d].filter((_, i) => i % 4 === 0); }})()"""
    )


def python_pixels(models, start, k, x_0=False, stop=6, eta=0.0):
    first, last = window(models.schedule.T, 6, start, stop)
    sampler = functools.partial(ddim, steps=6, eta=eta)
    guide = negative(9, 2.0, start=first, stop=last)
    (run,) = processes(models, guide, torch.tensor([models.K]), 13, sampler, 1)
    step = list(run)[k - 1]
    return as_bytes(step.x_0 if x_0 else step.x).flatten().int()


def test_the_page_shows_what_python_draws(page):
    """Pictures at the end and half-way, the strip; keys and clicks; nothing from elsewhere."""
    answers, requests, errors = click_through(
        {"size": [1280, 900]},
        {"goto": page + DIGITS},
        READY,
        pixels("#pair .without figure:nth-child(1) canvas"),
        pixels("#pair .with figure:nth-child(1) canvas"),
        pixels("#strip button:nth-child(3) canvas"),
        evaluate("document.getElementById('at').focus()"),
        *[{"press": "ArrowLeft"}] * 3,
        {"until": "document.getElementById('formula-now').textContent.includes('500')"},
        pixels("#pair .with figure:nth-child(2) canvas"),
        evaluate("document.getElementById('formula-now').textContent"),
        evaluate("[...document.querySelectorAll('#commands code')].map((c) => c.textContent)"),
        evaluate("document.querySelector('#strip button:nth-child(4)').click()"),
        {"until": "document.querySelector('#strip [aria-pressed=true]').value === '3'"},
        evaluate("document.getElementById('acting').textContent"),
        {"until": "location.hash.includes('start-step=3') && location.hash.includes('at=3')"},
        evaluate("document.querySelector('#strip [aria-pressed=true]').value"),
        evaluate("document.querySelector('#pair .without .verdict').textContent"),
        MESSAGE,
        evaluate("playground.store.set({at: null, eta: 0.5, 'start-step': 2, 'stop-step': 4})"),
        READY,
        pixels("#pair .with figure:nth-child(1) canvas"),
        evaluate("document.getElementById('network-said').textContent"),
    )
    models = load_models(ROOT / "weights/digits")
    shown = [a for a in answers if isinstance(a, list) and len(a) == 64]
    expected = [(6, 6), (1, 6), (2, 6), (1, 3, True), (2, 6, False, 4, 0.5)]
    for ours, theirs in zip(shown, expected, strict=True):
        assert (torch.tensor(ours) - python_pixels(models, *theirs)).abs().max() <= 1
    said = [a for a in answers if a is not None and a not in shown]
    formula, commands, acting, pressed, verdict, message, heard = said
    assert heard.startswith("Without p₋: ") and "with p₋ = 9 from step 2: " in heard
    assert formula == "ε̂ = 3·ε(xt, 500, ∅) − 2·ε(xt, 500, 9)"
    assert commands[0] == (
        "python -m guidance negative --weights weights/digits --class null --negative 9 --w 2 "
        "--start-step 1,6 --steps 6 --seed 13 --n 1"
    )
    assert "--start-step 0,1,2,3,4,5,6 " in commands[1]
    assert "acts in steps 3 to 5 of 6" in acting and pressed == "3"
    assert verdict.startswith("9") and message == ""
    assert errors == [] and all(url.startswith(page.rsplit("/", 3)[0]) for url in requests)


def test_what_is_wrong_is_said_in_a_line(page, tmp_path):
    """A URL, files of several kinds, and after them a right one, which then draws."""
    (tmp_path / "picture.safetensors").write_bytes(b"\x89PNG" + bytes(100))
    bad, good = tmp_path / "bad/unet.safetensors", tmp_path / "good/unet.safetensors"
    model = perturbed()
    save(good, model, INFO)
    model.out.bias.data[0] = torch.nan
    save(bad, model, INFO)
    dropped = """(() => { const data = new DataTransfer();
        data.items.add(new File(['no weights'], 'notes.txt'));
        document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true,
        cancelable: true})); })()"""
    chosen = {"of": "#file"}
    answers, _, errors = click_through(
        {"goto": page + DIGITS + "&w=99"},
        READY,
        MESSAGE,
        evaluate(dropped),
        {"until": "message.textContent.includes('notes.txt')"},
        MESSAGE,
        {"files": [str(tmp_path / "picture.safetensors")], **chosen},
        {"until": "message.textContent.includes('picture')"},
        MESSAGE,
        {"files": [str(bad)], **chosen},
        {"until": "message.textContent.includes('finite')"},
        MESSAGE,
        {"files": [str(ROOT / "weights/digits/classifier.safetensors")], **chosen},
        {"until": "message.textContent.includes('NoisyClassifier')"},
        MESSAGE,
        evaluate("playground.store.state.weights"),
        {"files": [str(good)], **chosen},
        {"until": "playground.store.state.file === 'unet.safetensors'"},
        READY,
        {"until": "document.getElementById('negative').options.length === 4"},
        evaluate("[...document.getElementById('negative').options].map((o) => o.value)"),
        evaluate("document.querySelector('#pair .verdict').textContent"),
        evaluate("location.hash = '#weights=digits&eta=7'"),
        {"until": "message.textContent.includes('eta')"},
    )
    said = [a for a in answers if isinstance(a, str)]
    assert said[0] == "The URL must give w as a number in -1..20, got 99."
    assert said[1].startswith("notes.txt is not a whole safetensors file")
    assert said[2].startswith("picture.safetensors is not a whole safetensors file")
    assert said[3] == "unet.safetensors holds values that are not finite, in out.bias"
    assert said[4].startswith("classifier.safetensors must hold a UNet of this project")
    assert said[5] == "digits" and said[6] == "no judge for these weights"
    assert ["null", "ant", "bee", "cat's"] in answers
    assert errors == []


def test_the_exact_world(page):
    """The window brings p₋ out; handles can be dragged and moved by keys; each state is a URL."""
    status = evaluate("document.getElementById('world-status').textContent")
    centre = """(() => { document.getElementById('plane').scrollIntoView({block: 'center'});
        const b = document.querySelectorAll('.handle')[1].getBoundingClientRect();
        return [b.x + b.width / 2, b.y + b.height / 2]; })()"""
    first = (
        {"size": [1280, 900]},
        {"goto": page + "#weights=digits&steps=2"},
        evaluate("document.getElementById('exact-world').scrollIntoView()"),
        {"until": "document.getElementById('world-status').textContent"},
    )
    answers, _, _ = click_through(*first, status, evaluate(centre))
    text, (x, y) = answers[4:]
    came, left = (int(text.split(word)[0].split()[-1]) for word in (" came", " left"))
    assert came > 2 * left > 0
    answers, _, errors = click_through(
        *first,
        evaluate(centre),
        {"mouse": [[x, y], [x + 20, y - 30], [x + 60, y - 60]]},
        {"until": "location.hash.includes('gaussians=')"},
        evaluate("playground.store.state.gaussians[1]"),
        {"press": "ArrowLeft"},
        evaluate("playground.store.state.gaussians[1]"),
        evaluate("playground.store.set({'world-guidance': 'posterior'})"),
        {"until": "document.getElementById('world-formula').textContent.includes('λ')"},
        {"until": "location.hash.includes('world-guidance=posterior')"},
        evaluate("document.getElementById('world').value = 'x', location.hash"),
    )
    moved, pressed, hash_ = answers[7], answers[9], answers[-1]
    assert moved["x"] > 1.3 and moved["y"] > 0.2
    assert pressed["x"] == pytest.approx(moved["x"] - 0.1) and pressed["y"] == moved["y"]
    again = ask("parse", hash=hash_)
    assert again["errors"] == [] and again["state"]["gaussians"][1] == pressed
    assert errors == []


def test_every_width_and_every_reader(page):
    """No sideways scrolling, a name for every control and picture, and no doubled id."""
    unnamed = """[...document.querySelectorAll('input, select, button, canvas, svg, output')]
        .filter((n) => !(n.labels?.length || n.ariaLabel || n.getAttribute('aria-label') ||
        n.textContent.trim() || n.closest('button'))).map((n) => n.outerHTML)"""
    doubled = """(() => { const ids = [...document.querySelectorAll('[id]')].map((n) => n.id);
        return ids.filter((id, i) => ids.indexOf(id) !== i); })()"""
    wide = "document.documentElement.scrollWidth - innerWidth"
    widths = [320, 390, 768, 1280]
    answers, _, errors = click_through(
        {"goto": page + DIGITS},
        READY,
        evaluate("document.getElementById('exact-world').scrollIntoView()"),
        {"until": "document.getElementById('world-status').textContent"},
        *[a for w in widths for a in ({"size": [w, 800], "phone": w < 700}, evaluate(wide))],
        evaluate(unnamed),
        evaluate(doubled),
    )
    assert [a for a in answers if isinstance(a, int)] == [0] * len(widths)
    assert answers[-2:] == [[], []] and errors == []


def test_where_something_is_missing(page):
    """A line where SIMD is missing, and where the page was opened as a file."""
    answers, _, _ = click_through(
        {"before": "WebAssembly.validate = () => false"},
        {"goto": page + DIGITS},
        {"until": "!message.hidden"},
        MESSAGE,
    )
    assert answers[-1].startswith("This browser has no WebAssembly SIMD")
    answers, _, _ = click_through(
        {"goto": (ROOT / "docs/playground/index.html").as_uri()},
        {"until": "!message.hidden"},
        MESSAGE,
    )
    assert "run `make playground`" in answers[-1]


def test_make_playground_serves_on_the_loopback_address_alone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"env": {**os.environ, "BROWSER": "true"}, "stderr": subprocess.DEVNULL}
    make = ["make", "playground", f"PORT={port}", f"PYTHON={sys.executable}"]
    with subprocess.Popen(make, cwd=ROOT, start_new_session=True, **quiet) as server:
        try:
            url = f"http://127.0.0.1:{port}/docs/playground/page.js"
            for _ in range(200):
                with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
                    break
                time.sleep(0.1)
            assert answer.status == 200 and "javascript" in answer.headers["Content-Type"]
            with socket.socket() as other, pytest.raises(OSError):
                other.connect(("127.0.0.2", port))  # all of 127/8 would answer a server of 0.0.0.0
        finally:
            os.killpg(server.pid, signal.SIGTERM)
