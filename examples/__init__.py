"""Complete uses of Whimbrel, each in a folder of its own."""
