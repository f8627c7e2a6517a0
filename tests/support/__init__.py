"""What several test folders share: ports, fakes, and the run's own rules."""
