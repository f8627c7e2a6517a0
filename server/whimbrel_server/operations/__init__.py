"""What people may do to the fleet: each operation one transaction, with its audit entry."""
