"""Counting rows on a device: cells, the accumulator and its memory, slices, labels."""
