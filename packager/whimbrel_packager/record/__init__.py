"""What a bundle says of itself: manifest, lineage, provenance, bill of materials, card."""
