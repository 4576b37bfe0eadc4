"""A run as a thing: what it is made of, its folder, how it goes on, one video or many.

The room is not called `run`: Python binds a package's rooms to its names, and `tracker.run` is a
function that people call.
"""
