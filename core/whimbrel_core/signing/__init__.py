"""Keys and DSSE envelopes: the signatures of bundles and of assignments."""
