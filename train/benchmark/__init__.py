"""How fast: beside the peers, as the work grows, and how long until the samples are good."""
