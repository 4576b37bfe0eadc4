"""Models: how they are built, what is known of them, and their weights."""
