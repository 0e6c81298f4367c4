"""docs/equations.md: every row names a function that cites the equation and a test that exists.

That the test has passed is looked at when a run of all laws ends, in equation_index.py. Where the
row names a notebook, a section of it shows the equation and runs the function.
"""

import ast
import importlib
import json
import re

import pytest
from equation_index import INDEX, ROOT, equations, name_of, named_tests

NUMBERS = r"\d+(?:–\d+)?(?:, \d+(?:–\d+)?)*"
CITATION = re.compile(
    rf"(?<!\w)(DDPM|ADM|CFG|NegPrompt|DDIM|DPM-Solver\+\+|DNG)((?:,?\s+(?:Eq|Alg)\.\s+{NUMBERS})+)"
)
COMPLETE = {
    "DDPM": [f"Eq. {n}" for n in range(1, 17)] + ["Alg. 1", "Alg. 2"],
    "ADM": [f"Eq. {n}" for n in range(2, 15)] + ["Alg. 1", "Alg. 2"],
    "CFG": [f"Eq. {n}" for n in range(1, 7)] + ["Alg. 1", "Alg. 2"],
    "NegPrompt": ["Eq. 4", "Eq. 5"],
    "DDIM": ["Eq. 12", "Eq. 16"],
    "DPM-Solver++": ["Alg. 2"],
    "DNG": ["Eq. 10", "Alg. 1"],
}


def citations(docstring):
    """{("DDPM", "Eq. 4"), …} of a text such as «DDPM Eq. 3–5, Alg. 1; CFG Eq. 6»."""
    found = set()
    for paper, groups in CITATION.findall(" ".join(docstring.split())):
        for kind, numbers in re.findall(rf"(Eq|Alg)\.\s+({NUMBERS})", groups):
            for part in numbers.split(", "):
                first, _, last = part.partition("–")
                for n in range(int(first), int(last or first) + 1):
                    found.add((paper, f"{kind}. {n}"))
    return found


def resolve(name):
    """The object behind a dotted name such as ddpm.GaussianMixture.eps."""
    module, _, rest = name.partition(".")
    found = importlib.import_module(module)
    for part in rest.split("."):
        if not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            found = getattr(found, part)
    return found


def test_the_index_is_complete():
    """Every numbered equation of each paper, in order."""
    listed = {}
    for paper, equation, *_ in INDEX:
        listed.setdefault(paper, []).append(equation)
    assert listed == COMPLETE


def test_citations_are_read_as_they_are_written():
    """Ranges, lists, line breaks; and a longer name that ends in a paper's is another paper."""
    text = "As DDPM Eq. 3–5, 16, Alg. 1 says; CFG Eq. 6, but not IDDPM Eq. 9 and\n ADM Alg.\n 2."
    numbers = {("DDPM", f"Eq. {n}") for n in (3, 4, 5, 16)}
    assert citations(text) == numbers | {("DDPM", "Alg. 1"), ("CFG", "Eq. 6"), ("ADM", "Alg. 2")}


@pytest.mark.parametrize("row", INDEX, ids=lambda row: f"{row[0]} {row[1]}")
def test_every_row_resolves(row):
    """The function cites the equation, and so does the test."""
    paper, equation, formula, functions, tests, _notebook = row
    assert formula
    if functions.startswith("definition: "):
        assert tests == "—"
        return
    for name in re.findall(r"`([^`]+)`", functions):
        function = resolve(name)
        assert (paper, equation) in citations(function.__doc__), f"{name} does not cite it"
    names = named_tests(row)
    assert names
    for name in names:
        path, _, test = name.partition("::")
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        found = {n.name: ast.get_docstring(n) for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert (paper, equation) in citations(found[test] or ""), f"{name} does not cite it"


def sections(notebook):
    """{heading: (prose, code)} of a notebook; a section reaches to the next heading."""
    found, heading = {}, ""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("## "):
                heading = line[3:]
            prose, code = found.get(heading, ("", ""))
            if cell["cell_type"] == "markdown":
                found[heading] = (prose + line + "\n", code)
            else:
                found[heading] = (prose, code + line + "\n")
    return found


@pytest.mark.parametrize(
    "row", [row for row in INDEX if row[5] != "—"], ids=lambda row: f"{row[0]} {row[1]}"
)
def test_the_notebooks_section_shows_the_equation(row):
    """In its prose; and its code calls the function."""
    paper, equation, _formula, functions, _tests, notebook = row
    link = re.fullmatch(r"\[(\d\d) (.+)\]\((\.\./notebooks/\1_\w+\.ipynb)#(.+)\)", notebook)
    assert link, notebook
    _number, heading, path, anchor = link.groups()
    assert anchor == heading.replace(" ", "-")  # as Jupyter names its headings
    prose, code = sections(ROOT / "docs" / path)[heading]
    assert (paper, equation) in citations(prose)
    names = [name.rpartition(".")[2] for name in re.findall(r"`([^`]+)`", functions)]
    assert any(re.search(rf"\b{name}\(", code) for name in names), names


def test_most_central_equations_are_shown():
    """A notebook shows each of the equations that the project is about."""
    shown = {(row[0], row[1]) for row in INDEX if row[5] != "—"}
    assert {("DDPM", "Eq. 4"), ("DDPM", "Eq. 14"), ("ADM", "Eq. 14"), ("CFG", "Eq. 6")} < shown
    assert {("NegPrompt", "Eq. 5"), ("DDIM", "Eq. 12")} < shown


def test_a_test_is_known_by_any_of_its_node_ids():
    """With and without parameters, from the repository's root or from a folder above it."""
    name = "laws/test_02_forward.py::test_q_posterior_on_a_grid"
    for nodeid in (f"tests/{name}[linear-2]", f"a/b/tests/{name}[x::y]", name):
        assert name_of(nodeid) == name and equations(nodeid) == "DDPM Eq. 6"
    assert equations("tests/laws/test_equations.py::test_the_index_is_complete") == ""
