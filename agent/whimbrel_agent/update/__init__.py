"""Moving a slot from one version to another: the machine, its effects, and their processes."""
