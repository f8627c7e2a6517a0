"""The server's HTTP interface: REST under /api/v1, the bundle repository, metrics."""
