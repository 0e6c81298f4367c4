"""The mutants of a file: mutmut's, without those that change a wording or a plot's looks."""

import difflib
import re
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from mutmut.mutation.file_mutation import Mutation, MutationVisitor, create_mutations

# No fault of arithmetic: wordings, and how a plot looks.
WORDS = {"help", "metavar", "description", "epilog", "prog", "usage", "desc", "unit"}
LOOKS = {"fontsize", "figsize", "size", "dpi", "color", "alpha", "linewidth", "linestyle",
         "marker", "markersize", "loc", "ncol", "pad", "frameon", "label", "layout"}  # fmt: skip
PLOTS = re.compile(r"\.(set_\w+|legend|tick_params|savefig|subplots|annotate|text|ax[hv]line|plot|"
                   r"fill_between|scatter|imshow|suptitle|grid)$")  # fmt: skip

skip_by_default = MutationVisitor._skip_node_and_children


def skip(self: MutationVisitor, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.FunctionDef):
        return False  # decorated ones are mutated, too
    code = cst.Module([]).code_for_node
    if isinstance(node, cst.Call) and PLOTS.search(code(node.func)):
        return True
    shell = isinstance(node, cst.If) and "__name__" in code(node.test)
    words = isinstance(node, cst.Arg) and not scored(node)
    return shell or words or isinstance(node, cst.Raise) or skip_by_default(self, node)


def scored(node: cst.CSTNode) -> bool:
    """Whether a change of it is more than one of a wording or of a plot's looks."""
    if isinstance(node, cst.Arg):
        name = node.keyword.value if node.keyword else ""
        return name not in WORDS | LOOKS and scored(node.value)
    if isinstance(node, cst.Call):
        return True
    if isinstance(node, cst.SimpleString):
        return " " not in node.value
    return not isinstance(node, cst.ConcatenatedString | cst.FormattedString)


class Mutant(NamedTuple):
    path: Path
    module: cst.Module
    mutation: Mutation
    name: str  # of the function or class that is changed

    def code(self) -> str:
        change = self.mutation.original_node, self.mutation.mutated_node
        return self.module.deep_replace(*change).code

    def diff(self) -> str:
        lines = (code.splitlines() for code in (self.module.code, self.code()))
        return "\n".join(list(difflib.unified_diff(*lines, n=0, lineterm=""))[2:])


def mutants(root: Path, path: Path) -> list[Mutant]:
    MutationVisitor._skip_node_and_children = skip
    module, mutations, *_ = create_mutations(str(path), (root / path).read_text())
    owner = {f: node.name.value for node in module.body if isinstance(node, cst.ClassDef)
             for f in node.body.body}  # fmt: skip
    found = []
    for mutation in mutations:
        old, new = mutation.original_node, mutation.mutated_node
        changed = [old]
        if isinstance(old, cst.Call) and isinstance(new, cst.Call):
            changed = [arg for arg in old.args if arg not in new.args]
        if all(map(scored, changed)):
            outer = mutation.contained_by_top_level_function
            name = "__all__" if path.stem == "__init__" else path.stem
            name = outer.name.value if isinstance(outer, cst.FunctionDef) else name
            found.append(Mutant(path, module, mutation, owner.get(outer, name)))
    return found
