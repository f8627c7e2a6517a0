"""Keys of all kinds, and what is signed with them."""
