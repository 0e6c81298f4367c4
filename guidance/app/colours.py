"""The palette of every plot: the notebooks', the experiments' and a training run's.

Petroff's ten (arXiv 2107.02270), which can be told apart with any colour vision; a dark grey for ∅
and for what has no guidance; a green for the second curve where none of these is meant.
"""

CLASS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
         "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")  # fmt: skip
"""Class k of a mixture is CLASS[k]; so is the k-th of several curves without a name below."""
NULL = "#222222"
ACCENT = "#009e73"  # Okabe and Ito's, as Petroff has no green

SIGNED = ("#0a3a70", CLASS[0], "#f7f7f7", CLASS[6], "#7a2f00")
"""From below 0 to above it: blue to orange, as dark at both ends."""

PLUS, MINUS = CLASS[0], CLASS[2]  # p₊ and p₋
NONE, FREE, NEGATIVE, LATE, POSTERIOR = NULL, PLUS, MINUS, CLASS[1], CLASS[4]
"""No guidance; classifier-free; constant w or λ, from the first step or later; λ = p/(1−p)."""
CLASSIFIER, CLASSIFIER_ON_C = ACCENT, CLASS[5]
