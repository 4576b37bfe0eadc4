"""Count objects: totals and line crossings, pure functions of a stream of Tracks."""
