"""Making a proven network smaller, and measuring what that loses."""
