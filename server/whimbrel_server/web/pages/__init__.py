"""Each page as a value: what it shows, asked of the fleet; its ``.json`` twin is the same value."""
