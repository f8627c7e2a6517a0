"""What differs between two sets of counts: evidence, effect, and how it is told."""
