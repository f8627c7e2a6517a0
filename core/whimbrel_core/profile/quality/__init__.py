"""How good predictions are: with labels, and expected without."""
