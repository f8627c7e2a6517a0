"""From the broker to the database, and the acknowledgement back."""
