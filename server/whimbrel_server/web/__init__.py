"""The dashboard: pages are values, rendered on the server, complete without JavaScript."""
