"""Profile windows on the device: recorded, kept, sent until acknowledged."""
