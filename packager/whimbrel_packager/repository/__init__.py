"""The repository of released bundles: TUF metadata, who may sign it, and what is published."""
