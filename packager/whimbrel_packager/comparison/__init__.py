"""What differs between two bundles, and what it means for callers, devices and reviewers."""
