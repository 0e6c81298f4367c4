"""docs/ja says what the English says: the same code, outputs, numbers, formulas and headings."""

import re
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
JA = ROOT / "docs/ja"
sys.path.insert(0, str(JA))

from sync import STAMP, sections, stamp  # noqa: E402

ENGLISH, JAPANESE = (page.read_text() for page in (ROOT / "README.md", JA / "README.md"))
PAIRS = {
    path.name: [nbformat.read(p, as_version=4) for p in (ROOT / "notebooks" / path.name, path)]
    for path in sorted(JA.glob("*.ipynb"))
}
TEXTS = [  # (where, English, Japanese, the stamp of the English that was translated)
    (f"{name} {ours.id}", theirs.source, ours.source, ours.metadata.get("english"))
    for name, (english, japanese) in PAIRS.items()
    for theirs, ours in zip(english.cells, japanese.cells, strict=False)
    if ours.cell_type == "markdown"
]
for part in sections(JAPANESE).values():
    of, at = STAMP.search(part).groups()
    TEXTS.append((f"README, {of}", sections(ENGLISH).get(of, ""), STAMP.sub("", part), at))
texts = pytest.mark.parametrize(
    ("english", "japanese", "of"), [text[1:] for text in TEXTS], ids=[text[0] for text in TEXTS]
)


def content(text):
    """What a translation leaves as it is; all but the blocks of code may come in another order."""
    code = re.findall(r"^```.+?^```$|^ {4}.+?$", text, re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.+?^```$|^ {4}.+?$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]+\)", "]", text)  # where links lead differs, and is tested below
    headings = re.findall(r"^#+(?= )", text, re.MULTILINE)
    inline = re.findall(r"`[^`]+`", text)
    text = re.sub(r"`[^`]+`", "", text)
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.DOTALL)
    formulas = [re.sub(r"\\text\{\(.+?\)\}", "", formula) for formula in formulas]  # a remark
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    text = re.sub(r"\$\$.+?\$\$|\$[^$]+\$|(?<=\S)['’]\w+", "", text, flags=re.DOTALL)
    signs = re.findall(r"[ε∅λᾱφθσ₊₋√·≈∇∝→×|=−+≥≤/′&]", text)
    letters = re.findall(r"\b[b-zB-HJ-Z]\b", text, re.ASCII)
    names = re.findall(r"\b[A-Z]\w*[A-Z]", text, re.ASCII)  # CFG, NegP(rompt)
    return {
        "code": code,
        "headings": headings,
        "answers": text.count("<details>"),
        **{
            kind: Counter(found)
            for kind, found in {
                "inline code": inline,
                "formulas": formulas,
                "numbers": numbers,
                "signs": signs,
                "letters": letters,
                "names": names,
            }.items()
        },
    }


@pytest.mark.parametrize("name", PAIRS)
def test_code_and_outputs_are_the_english_ones(name):
    """If this fails: python docs/ja/sync.py, after notebooks/execute.py."""
    english, japanese = PAIRS[name]
    assert japanese.metadata == english.metadata
    assert [cell.id for cell in japanese.cells] == [cell.id for cell in english.cells]
    for theirs, ours in zip(english.cells, japanese.cells, strict=True):
        metadata = {key: value for key, value in ours.metadata.items() if key != "english"}
        own = {"source": theirs.source} if ours.cell_type == "markdown" else {}
        assert {**ours, **own, "metadata": metadata} == theirs


@texts
def test_it_translates_the_english_that_is_there(english, japanese, of):
    """If this fails: translate what has changed, then python docs/ja/sync.py --translated."""
    assert of == stamp(english)
    assert re.search("[ぁ-ん]", japanese)


@texts
def test_it_says_the_same(english, japanese, of):
    assert content(japanese) == content(english)


def test_the_readme_follows_the_english_order_and_leaves_no_code_out():
    order = [of for of, _ in STAMP.findall(JAPANESE)]
    assert order == [heading for heading in sections(ENGLISH) if heading in order]
    assert content(JAPANESE)["code"] == content(ENGLISH)["code"]


@pytest.mark.parametrize("name", PAIRS)
def test_links_of_the_notebooks_lead_somewhere(name):
    text = "\n".join(cell.source for cell in PAIRS[name][1].cells if cell.cell_type == "markdown")
    links = re.findall(r"\[[^]]+\]\(([^)]+\.\w+)\)", text)
    assert f"../../notebooks/{name}" in links
    assert all((JA / link).exists() for link in links)
