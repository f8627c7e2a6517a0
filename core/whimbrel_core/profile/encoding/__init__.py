"""Windows as bytes: numbers packed compactly, and read back from bytes that nobody vouches for."""
