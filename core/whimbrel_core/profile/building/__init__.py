"""Making baselines and profiles of data sets (build machine)."""
