"""Where results go: a format or a drawing bound to a file."""
