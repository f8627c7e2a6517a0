"""What devices and the fleet server say to each other: protocol version 1."""
