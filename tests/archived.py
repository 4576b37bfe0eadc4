"""A tracker whose history is kept, and states on their way through JSON."""

from tracker.associate.history import History, HistoryLine
from tracker.associate.mask_tracker import MaskTracker


def through_json(state):
    """Return a state as another process reads it."""
    return type(state).model_validate_json(state.model_dump_json())


class Archive:
    """A tracker with the history of all it saw, in the tracker's place."""

    def __init__(self, tracker=None, config=None):
        self.tracker, self.history = tracker or MaskTracker(), History(config)
        self.size, self.lines = None, []

    def resize(self, width, height):
        self.tracker.resize(width, height)
        self.size = (width, height)

    def update(self, detections, time, image=None):
        return self._note(self.tracker.update(detections, time, image), detections, time, True)

    def carry(self, time, image=None):
        return self._note(self.tracker.carry(time, image), None, time, False)

    def _note(self, tracks, detections, time, detected):
        line = self.history.add(tracks, detections, time, self.size, detected=detected)
        self.lines.append(line.model_dump_json())
        return tracks

    def restore(self, state, lines):
        """Go on as another process does."""
        self.tracker.restore(through_json(state))
        self.history.recall(HistoryLine.model_validate_json(line) for line in lines)
        self.lines = list(lines)

    def refined(self):
        return self.history.refined()
