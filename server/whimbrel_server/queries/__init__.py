"""From the store to views: what people and programs ask to see."""
